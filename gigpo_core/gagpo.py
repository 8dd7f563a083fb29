"""GAGPO: temporal advantages over state values that a group's own returns give."""

from __future__ import annotations

import torch
from torch import Tensor

from gigpo_core.levels import Comparison, Levels
from gigpo_core.relative import group_relative
from gigpo_core.returns import discounted_returns, group_rounding


def gagpo(comparison: Comparison) -> Levels:
    """GAGPO: A^S is the whole advantage, and A^E is 0. Source: arXiv:2605.13217.

    The temporal advantages are compared among all steps of a group: less their mean, over their sample deviation where
    `norm` says so. A penalty is taken from the temporal advantage of its own step alone.
    """
    config, grouping = comparison.config, comparison.by_group()
    advantage = comparison.penalised(temporal_advantage(comparison, trace=config.gae_lambda))
    relative = group_relative(
        grouping.arrange(advantage), grouping.groups, scaled=config.norm == "mean_std", epsilon=config.epsilon
    )
    step = grouping.restore(relative)
    return Levels(torch.zeros_like(step), step, advantage=step)


def temporal_advantage(comparison: Comparison, *, trace: float) -> Tensor:
    """Return A_t = sum_{k>=t} (gamma lambda)^(k-t) delta_k of each step, float64 [N], reward units.

    V(s) is the mean discounted return of the group's rows at s, delta_t = r_t + gamma V(s_t+1) - V(s_t), and V is 0
    after the last step of an episode, however it ended. Source: GAGPO (arXiv:2605.13217); the sum is that of GAE
    (arXiv:1506.02438). A delta that is no larger than the rounding of the group's returns is exactly 0.

    Args:
        comparison: N steps, their returns and step groups.
        trace: lambda in [0, 1]; 0: delta alone, 1: the return less the state's value.
    """
    steps, gamma = comparison.steps, comparison.config.gamma
    value = comparison.state_value(comparison.returns)
    delta = comparison.reward + gamma * comparison.next_value(value, 0.0) - value
    grouping = comparison.by_group()
    rounding = grouping.restore(group_rounding(grouping.arrange(comparison.reward), grouping.groups))
    settled = torch.where(delta.abs() > rounding, delta, 0.0)
    return discounted_returns(settled, steps.episodes, steps.position, gamma * trace, longest=steps.longest)
