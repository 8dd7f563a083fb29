"""Returns that only the rounding of their sums tells apart are equal: advantages of exactly 0 at every level."""

import pytest
import torch
from core_samples import ESTIMATORS, assert_values, episodes_of

from gigpo_core import AdvantageConfig, compute_advantages

SUMMED, WRITTEN = [("s", 0.1), ("t", 0.2)], [("s", 0.3), ("t", 0.0)]
"""Returns of 0.30000000000000004 and 0.3."""
SETTINGS = [
    *({"advantage_estimator": name} for name in ESTIMATORS),
    {"advantage_estimator": "gigpo", "gamma": 1.0, "norm": "mean_std"},
    {"advantage_estimator": "grpo", "scale_rewards": "group"},
    {"advantage_estimator": "grpo", "scale_rewards": "batch"},
    {"advantage_estimator": "hgpo", "gamma": 1.0, "hgpo_base_group": True},
    {"advantage_estimator": "grpo", "episode_statistics": "per_step"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("s", 0.1 + 0.2)], [("s", 0.3)]),
        ([("s", 1 - 0.9)], [("s", 0.1)]),
        ([("s", 1.0)], [("s", 1.0 + 2**-52)]),
        ([("s", 0.1 + 0.2 - 0.3)], [("s", 0.0)]),
    ],
)
def test_rewards_that_differ_by_rounding_are_equal(one, other, settings):
    got = compute_advantages(episodes_of(one, other, one), AdvantageConfig(**settings))
    assert not got.advantage.any()
    assert not got.episode_advantage.any()


def test_sums_in_another_order_are_equal_returns():
    assert not compute_advantages(episodes_of(SUMMED, WRITTEN), AdvantageConfig("grpo")).advantage.any()
    got = compute_advantages(episodes_of(SUMMED, WRITTEN), AdvantageConfig("gigpo", gamma=1.0))
    assert_values(got.episode_advantage, 0, 0, 0, 0)
    assert got.step_advantage[:3:2].tolist() == [0.0, 0.0]


def test_a_penalty_in_a_group_of_equal_returns_is_not_divided_by_their_rounding():
    for scale in ("group", "batch"):
        config = AdvantageConfig("grpo", scale_rewards=scale, invalid_action_penalty=0.5)
        batch = episodes_of(SUMMED, WRITTEN, action_valid=torch.tensor([True, False, True, True]))
        assert_values(compute_advantages(batch, config).advantage, 0.0, -0.5, 0.0, 0.0)


def test_small_rewards_stay_different():
    got = compute_advantages(episodes_of([("s", 1e-9)], [("s", 2e-9)]), AdvantageConfig("grpo"))
    assert_values(got.advantage, -0.5e-9, 0.5e-9)
    near = compute_advantages(episodes_of([("s", 0.3)], [("s", 0.3 + 1e-12)]), AdvantageConfig("grpo"))
    assert near.advantage.all()


def test_equal_pairs_among_other_returns_get_one_advantage():
    batch = episodes_of([("s", 0.3)], [("s", 1.0)], [("s", 0.1 + 0.2)], [("s", 0.0)])
    first, _, third, _ = compute_advantages(batch, AdvantageConfig("grpo")).advantage.tolist()
    assert first == third
