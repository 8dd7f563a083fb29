"""Estimators set against each other at one budget, by task and seed; never a winner without an interval."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gigpo.client.budget import Budget, Result, measured, smallest_spent
from gigpo.client.compare import contrasts, unmeasured
from gigpo.client.contrast import Contrast, contrast
from gigpo.client.errors import BadInput
from services.contracts.summary import EvaluationResult


def evaluation(outcomes: str, label: str = "after", version: int = 10, panel: str | None = "p") -> EvaluationResult:
    counted = [letter for letter in outcomes if letter != "-"]
    success = counted.count("1") / len(counted)
    return EvaluationResult(
        label=label, version=version, episodes=len(counted), success=success, standard_error=0.1, return_mean=success,
        length_mean=3.0, invalid_share=0.0, split="test", panel=panel, outcomes=outcomes,
    )  # fmt: skip


def against(first: dict[int, Any], second: dict[int, Any]) -> Contrast:
    found = contrast(
        ("a", {seed: evaluation(one) if isinstance(one, str) else one for seed, one in first.items()}),
        ("b", {seed: evaluation(one) if isinstance(one, str) else one for seed, one in second.items()}),
    )
    assert found is not None
    return found


def test_the_difference_is_paired_and_its_interval_the_hand_worked_one() -> None:
    # differences of seeds and tasks: (1 0 1 0), (0 0 1 0), (1 -1 1 1); means .5, .25, .5; of tasks 2/3, -1/3, 1, 1/3
    found = against({0: "1110", 1: "0110", 2: "1011", 3: "1111"}, {0: "0100", 1: "0100", 2: "0100"})
    rows = [[1, 0, 1, 0], [0, 0, 1, 0], [1, -1, 1, 1]]
    means, columns, whole = [0.5, 0.25, 0.5], [2 / 3, -1 / 3, 1.0, 1 / 3], 5 / 12
    chance = sum((rows[s][t] - means[s] - columns[t] + whole) ** 2 for s in range(3) for t in range(4)) / 6
    spread = sum((column - whole) ** 2 for column in columns) / 3
    by_task, by_seed = max(0.0, (3 * spread - chance) / 12), max(1 / 48, chance / 4)
    assert (found.seeds, found.tasks) == (3, 4)
    assert found.difference == pytest.approx(whole)
    assert found.half_width == pytest.approx(4.303 * math.sqrt(by_seed / 3 + by_task))
    assert found.effect == pytest.approx(whole / math.sqrt(by_seed))


def test_one_seed_has_no_winner_however_large_the_difference() -> None:
    found = against({0: "1" * 64}, {0: "0" * 64})
    assert (found.difference, found.half_width, found.settled, found.further_seeds) == (1.0, None, False, None)
    assert str(found) == "a - b: +1.000 (1 seeds x 64 tasks); not settled: one seed has no interval"


def test_one_that_is_ahead_on_each_seed_wins() -> None:
    better, worse = {0: "1110" * 8, 1: "1101" * 8, 2: "0111" * 8}, {0: "1000" * 8, 1: "0100" * 8, 2: "0010" * 8}
    found = against(better, worse)
    assert found.settled
    assert found.further_seeds == 0
    assert str(found).endswith("; a is ahead of b")
    assert str(against(worse, better)).endswith("; b is ahead of a")


def test_the_further_seeds_are_the_fewest_that_make_the_interval_small_enough() -> None:
    def plain(success: float) -> EvaluationResult:
        return evaluation("1", panel=None).model_copy(update={"success": success, "outcomes": ""})

    found = against({0: plain(0.9), 1: plain(0.7)}, {0: plain(0.6), 1: plain(0.6)})  # differences .3 and .1
    assert (found.tasks, found.settled, found.further_seeds) == (
        0,
        False,
        3,
    )  # four: .225, five: .176
    assert "about 3 further seeds would settle" in str(found)
    level = against({0: plain(0.9), 1: plain(0.7)}, {0: plain(0.7), 1: plain(0.9)})
    assert level.further_seeds is None
    assert "would not settle a difference of this size" in str(level)


def test_seeds_that_agree_by_chance_are_no_proof() -> None:
    """Two seeds with one difference have no spread; what each task decided by chance is the least that there is."""
    found = against({0: "1100", 1: "0110"}, {0: "0100", 1: "0100"})
    assert found.difference == 0.25
    assert found.half_width is not None
    assert found.half_width > 0.25
    assert not found.settled


def test_different_panels_settle_nothing_and_a_task_that_was_not_played_is_left_out() -> None:
    ahead = {seed: evaluation("1110" * 8) for seed in range(3)}
    other = {seed: evaluation("0000" * 8, panel="q") for seed in range(3)}
    found = against(ahead, other)
    assert (found.same_panel, found.settled, found.tasks) == (False, False, 0)
    assert "different panels" in str(found)
    lost = {seed: evaluation("-000" * 8, panel=f"lost {seed}") for seed in range(3)}
    assert (against(ahead, lost).same_panel, against(ahead, lost).tasks) == (True, 24)
    assert against(ahead, lost).difference == pytest.approx(2 / 3)


def job(estimator: str, seed: int, steps: int, curve: dict[int, str]) -> Result:
    metrics: list[Any] = [
        {"batch": n, "env_steps": steps, "tokens": 2 * steps, "wait_s": 1.0, "train_s": 0.5, "publish_s": 0.25}
        for n in range(10)
    ]
    evaluations: Any = [
        evaluation(outcomes, {0: "before", 10: "after"}.get(version, "during"), version).model_dump()
        for version, outcomes in curve.items()
    ]
    return Result(estimator, seed, {"evaluations": evaluations}, metrics)


JOBS = [
    one
    for seed in range(3)
    for one in (
        job("grpo", seed, 100, {0: "0000", 5: "0100", 10: "0110"}),
        job("gigpo", seed, 200, {0: "0000", 5: "0100", 10: "1111"}),
    )
]


@pytest.mark.parametrize(("unit", "amount"), [("env_steps", 1000), ("tokens", 2000), ("seconds", 17.5)])
def test_the_budget_is_that_of_the_cheapest_job(unit: Any, amount: float) -> None:
    assert smallest_spent(JOBS, unit) == Budget(unit, amount)


def test_at_equal_steps_the_dearer_estimator_is_measured_earlier() -> None:
    budget = smallest_spent(JOBS, "env_steps")
    (after,), (equal,) = contrasts(JOBS, ["grpo", "gigpo"]), contrasts(JOBS, ["grpo", "gigpo"], budget)
    assert (after.difference, equal.difference) == (0.5, -0.25)
    assert [measured(one, budget).version for one in JOBS[:2]] == [10, 5]  # type: ignore[union-attr]
    assert contrasts(JOBS, ["grpo", "gigpo"], smallest_spent(JOBS, "seconds")) == [after]


def test_a_job_that_was_not_measured_near_the_budget_is_left_out_and_named() -> None:
    rare = [one if one.estimator == "grpo" else job("gigpo", one.seed, 200, {0: "0000", 4: "1111"}) for one in JOBS]
    budget = smallest_spent(rare, "env_steps")
    assert contrasts(rare, ["grpo", "gigpo"], budget) == []
    assert unmeasured(rare, budget) == ["gigpo-s0", "gigpo-s1", "gigpo-s2"]


def test_metrics_without_the_unit_are_refused() -> None:
    with pytest.raises(
        BadInput, match=r"grpo-s0: metrics\.jsonl: want tokens in every line to compare at equal tokens"
    ):
        smallest_spent([Result("grpo", 0, {}, [{"batch": 0, "env_steps": 3}])], "tokens")
