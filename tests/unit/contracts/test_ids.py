"""Deterministic identities."""

from hypothesis import given
from hypothesis import strategies as st

from services.contracts.ids import episode_id, group_id, sampling_seed, task_seed

PURPOSES = ("train", "eval", "warmstart")


def test_ids_are_the_ones_of_every_run_before():
    assert group_id("f" * 32, "train", 0, 0) == "t99f1cc75639069854b3"
    assert task_seed(0, "train", 0) == 866636514
    assert sampling_seed("t1/0", 0, 1) == 925196620


def test_groups_of_every_purpose_round_and_cursor_are_distinct():
    names = {
        group_id(fingerprint, purpose, round_, cursor)
        for fingerprint in ("a", "b")
        for purpose in PURPOSES
        for round_ in range(5)
        for cursor in range(200)
    }
    assert len(names) == 2 * 3 * 5 * 200
    assert all(len(name) == 20 for name in names)
    assert {name[0] for name in names} == {"t", "e", "w"}


def test_task_seeds_depend_on_seed_purpose_and_cursor_only_and_differ():
    seeds = [task_seed(seed, purpose, cursor) for seed in range(3) for purpose in PURPOSES for cursor in range(500)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_sampling_seeds_differ_by_episode_step_and_draw():
    seeds = {
        sampling_seed(episode_id("g", k), step, draw) for k in range(16) for step in range(20) for draw in (1, 2, 3)
    }
    assert len(seeds) == 16 * 20 * 3


@given(st.text(), st.integers(), st.integers(), st.text(), st.integers(), st.integers())
def test_parts_of_an_identity_do_not_run_into_each_other(a, i, j, b, k, m):
    same = (a, i, j) == (b, k, m)
    assert (sampling_seed(a, i, j) == sampling_seed(b, k, m)) >= same
    if "\x1f" not in a + b and not same:
        assert sampling_seed(a, i, j) != sampling_seed(b, k, m)
