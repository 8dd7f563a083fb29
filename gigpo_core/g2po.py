"""G2PO: steps by the value of the state they led to, and by what they gained."""

from __future__ import annotations

import torch
from torch import Tensor

from gigpo_core.levels import Comparison, Levels, episode_level, step_level, summed
from gigpo_core.relative import group_relative


def g2po(comparison: Comparison) -> Levels:
    """G2PO: A^S is the sum of two comparisons, of V(s') among the steps from s, and of V(s') - V(s) in the whole group.

    Source: arXiv:2606.22995, read as the authors' code computes it. A penalty is taken from V(s') in the first
    comparison alone. Both are divided by the sample deviation where `norm` says so.
    """
    config, grouping = comparison.config, comparison.by_group()
    value, ahead = visit_values(comparison)
    gain = group_relative(
        grouping.arrange(ahead - value), grouping.groups, scaled=config.norm == "mean_std", epsilon=config.epsilon
    )
    step = step_level(comparison.penalised(ahead), comparison) + grouping.restore(gain)
    return summed(episode_level(comparison), step, comparison)


def visit_values(comparison: Comparison) -> tuple[Tensor, Tensor]:
    """Return V(s) and V(s') of each step, float64 [N] each, reward units.

    V(s) is the mean over the group's visits to s of gamma^(L-t) R(tau), for step t of an episode of L steps: the last
    step counts gamma, not 1. After the last step V(s') is R(tau) where the episode succeeded, and 0 elsewhere; the
    authors' code has the constant reward of success there, which is R(tau) in their environments.

    Args:
        comparison: N steps and their step groups.
    """
    episodes, gamma = comparison.steps.episodes, comparison.config.gamma
    total = comparison.episode_total
    left = episodes.broadcast(episodes.count) - comparison.steps.position
    share = torch.pow(torch.full_like(comparison.reward, gamma), left)
    value = comparison.state_value(share * episodes.broadcast(total))
    at_end = episodes.broadcast(torch.where(comparison.succeeded, total, 0.0))
    return value, comparison.next_value(value, at_end)
