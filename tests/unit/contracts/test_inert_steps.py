"""Which batches have a step level that says nothing."""

from __future__ import annotations

from typing import Any

import pytest

from services.contracts.inert_steps import StepLevel, inert_cause, inert_streak

GIGPO = StepLevel("gigpo", 8, 1.0)
HEALTHY: dict[str, Any] = {
    "success": 0.3, "trained_rows": 900, "env_steps": 1024, "episodes": 128, "step_group_share_1": 0.3,
    "step_group_size_mean": 2.4, "step_group_size_max": 19, "aliased_anchor_share": 0.05,
    "step_advantage_share": 0.4, "episode_advantage_abs": 0.5,
}  # fmt: skip
UNIQUE = {**HEALTHY, "step_group_share_1": 0.97}
CONSTANT = {**HEALTHY, "step_group_share_1": 0.0, "step_group_size_mean": 63.0, "step_group_size_max": 90,
            "aliased_anchor_share": 1.0}  # fmt: skip
COUNTED = {**CONSTANT, "step_group_size_mean": 6.5, "step_group_size_max": 8, "aliased_anchor_share": 0.8}
SILENT = {**HEALTHY, "step_advantage_share": 0.004}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (HEALTHY, ""),
        (UNIQUE, "97.0% of the steps are in a state that no other step was in"),
        (CONSTANT, "a step group holds 63.0 steps on average, nearly all 64.0 of a group, in different states"),
        (COUNTED, "a step group holds 6.5 steps on average, one of nearly each of 8 episodes, in different states"),
        (SILENT, "the step level is 0.40% of the advantages' size"),
        ({**SILENT, "episode_advantage_abs": 0.0}, ""),
        ({**COUNTED, "aliased_anchor_share": 0.1}, ""),  # a policy that walks one way
        ({**COUNTED, "step_group_size_max": 20}, ""),
        ({**CONSTANT, "env_steps": 128}, ""),  # episodes of one step
        ({**UNIQUE, "success": 0.95}, ""),
        ({**UNIQUE, "trained_rows": 0}, ""),  # another alarm
        ({}, ""),
        ({"trained_rows": 5}, ""),
        ({"trained_rows": 5, "step_group_share_1": None}, ""),
    ],
)
def test_a_batch_says_why_its_step_level_is_inert(row: dict[str, Any], said: str) -> None:
    assert inert_cause(GIGPO, row) == said


def test_a_weight_of_0_silences_the_step_level_on_purpose() -> None:
    assert inert_cause(StepLevel("gigpo", 8, 0.0), {**SILENT, "step_advantage_share": 0.0}) == ""


def test_batches_are_counted_from_the_newest_on() -> None:
    assert inert_streak(GIGPO, [UNIQUE, CONSTANT, HEALTHY, UNIQUE]) == (2, inert_cause(GIGPO, UNIQUE))
    assert inert_streak(GIGPO, [HEALTHY, *[UNIQUE] * 9]) == (0, "")
    assert inert_streak(GIGPO, []) == (0, "")


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "reinforce_plus_plus"])
def test_an_estimator_without_a_step_level_has_none_to_be_inert(estimator: str) -> None:
    assert inert_streak(StepLevel(estimator, 8, 1.0), [UNIQUE] * 9) == (0, "")
