"""Which numbers tasks are made of."""

import numpy
import pytest

from services.env.environments.splits import in_test_split, reset_within, task_number


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**63])
def test_any_seed_of_a_job_gives_a_seed_that_generators_take(seed):
    for split in ("train", "valid", "test"):
        numpy.random.RandomState(task_number(f"{split}/{seed}"))  # refuses what is not below 2**32


def test_splits_and_seeds_have_numbers_of_their_own_and_always_the_same_ones():
    names = [f"{split}/{seed}" for split in ("train", "valid", "test") for seed in range(1000)]
    assert len({task_number(name) for name in names}) == len(names)
    assert task_number("train/0") == task_number("train/0")


def test_a_reset_stays_within_its_split():
    for split in ("train", "test"):
        for seed in range(20):
            tasks: list[str] = []
            reset_within(split, seed, lambda number, tasks=tasks: tasks.append(str(number)) or tasks[-1])
            assert in_test_split(tasks[-1]) == (split == "test")
