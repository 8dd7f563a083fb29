"""HGPO's hierarchy and GraphGPO's graph, by hand."""

import pytest
import torch
from core_samples import assert_values, episodes_of

from gigpo_core import (
    AdvantageConfig,
    StepBatch,
    compute_advantages,
)


def advantages(batch, estimator, **settings):
    return compute_advantages(batch, AdvantageConfig(estimator, **settings))


def test_hgpo_without_history_is_the_step_level_with_a_population_deviation():
    batch = episodes_of([("a", 1)], [("a", 3)], [("b", 7)])
    assert_values(advantages(batch, "hgpo", hgpo_history=0, epsilon=1e-300).advantage, -1.0, 1.0, 0.0)
    scaled = advantages(batch, "hgpo", hgpo_history=0, norm="mean_std", epsilon=1e-300)
    assert_values(scaled.advantage, -1.0, 1.0, 0.0)
    assert not scaled.episode_advantage.any()


def test_hgpo_weighs_levels_by_the_history_they_share():
    # "b" after "a" twice and after "c" once: level 1 has three rows, level 2 two of them.
    batch = episodes_of([("a", 0), ("b", 1)], [("a", 0), ("b", 3)], [("c", 0), ("b", 8)])
    got = advantages(batch, "hgpo", gamma=0.0, hgpo_history=1, hgpo_alpha=2.0, epsilon=1e-300).advantage
    first, second = 2.0**2, 3.0**2
    joined = [(first * -3 + second * -1) / (first + second), (first * -1 + second * 1) / (first + second)]
    assert_values(got, 0.0, joined[0], 0.0, joined[1], 0.0, 4.0)


def test_hgpo_base_group_averages_the_episode_level_in():
    batch = episodes_of([("a", 1)], [("a", 3)], [("b", 5)])
    got = advantages(batch, "hgpo", hgpo_history=0, hgpo_base_group=True, hgpo_alpha=0.0, epsilon=1e-300)
    assert_values(got.episode_advantage, -2.0, 0.0, 2.0)
    assert_values(got.advantage, -1.5, 1.0, 2.0)


def test_graphgpo_values_a_step_by_the_distance_from_where_it_led():
    # s-a-goal is two steps long; the second episode walks s-b-s and gives up, the third s-b-a-goal.
    batch = episodes_of(
        [("s", 0), ("a", 1)],
        [("s", 0), ("b", 0), ("s", 0)],
        [("s", 0), ("b", 0), ("a", 1)],
    )
    got = advantages(batch, "graphgpo", gamma=0.5)
    # Distances: a 1, s 2, b 2. A step into x is worth 0.5^d(x); into the unknown 0.5^(2+1).
    to_a, to_b, to_s, unknown, goal = 0.5, 0.25, 0.25, 0.125, 1.0
    at_s = (to_a + to_b + unknown + to_b) / 4
    at_b = (to_s + to_a) / 2
    wanted = [to_a - at_s, goal - goal, to_b - at_s, to_s - at_b, unknown - at_s, to_b - at_s, to_a - at_b, 0.0]
    assert_values(got.step_advantage, *wanted)
    assert_values(got.advantage, *(got.step_advantage + got.episode_advantage).tolist())


def test_graphgpo_sees_progress_inside_a_failed_episode():
    batch = episodes_of([("s", 0), ("a", 0), ("b", 1)], [("s", 0), ("a", 0)], [("s", 0), ("x", 0)])
    got = advantages(batch, "graphgpo", gamma=0.9)
    assert got.step_advantage[3] > 0 > got.episode_advantage[3]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_graphgpo_says_nothing_without_any_success(gamma):
    batch = episodes_of([("s", 0), ("a", 0)], [("s", 0)], [("s", 0), ("s", 0)])
    assert not advantages(batch, "graphgpo", gamma=gamma).advantage.any()


def test_graphgpo_takes_success_from_the_batch_where_it_is_given():
    batch = episodes_of([("s", 0)], [("s", -1)], success=torch.tensor([False, True]))
    assert_values(advantages(batch, "graphgpo", gamma=0.5).step_advantage, -0.375, 0.375)
    ten = advantages(batch, "graphgpo", gamma=0.5, graphgpo_success_reward=10.0)
    assert_values(ten.step_advantage, -3.75, 3.75)


def test_hgpo_looks_no_further_back_than_an_episode_is_long():
    batch = episodes_of([("a", 1), ("b", 0), ("a", 2)], [("a", 0), ("b", 3), ("a", 1)], [("b", 1)])
    whole = advantages(batch, "hgpo", hgpo_history=2).advantage
    assert torch.equal(advantages(batch, "hgpo", hgpo_history=10**9).advantage, whole)


def test_graphs_of_different_groups_do_not_touch():
    one = [[("s", 0), ("a", 1)], [("s", 0), ("s", 0)]]
    other = [[("s", 0), ("s", 1)], [("s", 0), ("a", 0)]]
    together = advantages(episodes_of(*one, *other, group=[0, 0, 1, 1]), "graphgpo").advantage
    alone = [advantages(episodes_of(*part), "graphgpo").advantage for part in (one, other)]
    assert torch.equal(together, torch.cat(alone))


def test_a_success_column_must_be_flags():
    batch = episodes_of([("s", 0)])
    wrong = StepBatch(**(vars(batch) | {"success": torch.ones(1)}))
    with pytest.raises(ValueError, match="success: want bool"):
        advantages(wrong, "graphgpo")
