"""A reward function that abstains on a row has no vote on it."""

import pytest
import torch
from core_samples import assert_values, episodes_of

from gigpo_core import AdvantageConfig, compute_advantages
from gigpo_core.errors import DtypeError, ShapeError


def advantages(components, voted, **settings):
    rows = [[(str(number), 0.0)] for number in range(len(components))]
    batch = episodes_of(
        *rows,
        reward_components=torch.tensor(components, dtype=torch.float64),
        reward_voted=None if voted is None else torch.tensor(voted),
    )
    return compute_advantages(batch, AdvantageConfig("grpo", epsilon=1e-12, **settings)).advantage


def test_a_row_is_not_compared_by_a_function_that_abstains_on_it():
    # the first function votes on three rows alone: their mean is 1, their deviation 1
    components = [[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [0.0, 5.0]]
    voted = [[True, True], [True, True], [True, True], [False, True]]
    mixed = torch.tensor([-1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    assert_values(advantages(components, voted, scale_rewards="gdpo"), *(mixed / mixed.std()).tolist())
    counted = advantages(components, None, scale_rewards="gdpo")
    assert counted[3] == counted[0] < 0


def test_a_function_that_always_abstains_changes_nothing():
    components, voted = [[0.0, 1.0], [0.0, 3.0]], [[False, True], [False, True]]
    alone = advantages([[1.0], [3.0]], None, scale_rewards="gdpo")
    assert_values(advantages(components, voted, scale_rewards="gdpo"), *alone.tolist())
    assert_values(advantages(components, voted), -1.0, 1.0)


def test_a_vote_is_a_truth_value_of_each_function():
    with pytest.raises(ShapeError, match="reward_voted"):
        advantages([[1.0], [3.0]], [[True, True], [True, True]])
    with pytest.raises(DtypeError, match="reward_voted: want bool"):
        advantages([[1.0], [3.0]], [[1], [1]])
