"""Returns of steps and of episodes."""

from __future__ import annotations

import torch
from torch import Tensor

from gigpo_core.segments import Segments

_EPSILON = 2.0**-52
"""Machine epsilon of float64, e. Two sums of the same L terms in other orders differ by at most L * e * sum(|term|)."""
_ROUNDINGS_OF_A_REWARD = 8
"""An environment's own arithmetic rounds too: 1 - 0.9 and 0.1 are one reward."""


def discounted_returns(
    reward: Tensor, episodes: Segments, position: Tensor, discount: float, *, longest: int
) -> Tensor:
    """Return the discounted sum of the rewards from each step to the end of its episode.

    R_t = sum_{k >= t} gamma^(k-t) r_k. Source: GiGPO (arXiv:2505.10978).

    The sum over L steps takes log2(L) passes: after pass p each row holds the sum over the next
    2^p steps, and adds the one that starts where its own ends. A row's additions depend only on the
    rewards that follow it, so equal futures give equal bits.

    Args:
        reward: float64 [N] in canonical order, reward units.
        episodes: the episodes, in canonical order.
        position: int64 [N], step index.
        discount: gamma in [0, 1]; 0 returns the reward itself, 1 the plain sum.
        longest: steps of the longest episode (the host has to know).

    Returns:
        float64 [N], reward units.
    """
    total = reward.clone()
    if longest <= 1 or discount == 0.0:
        return total
    left = episodes.broadcast(episodes.count) - position  # [N], steps from here to the end, >= 1
    reach, weight = 1, discount
    while reach < longest:
        ahead = total[reach:] * (left[:-reach] > reach)
        total[:-reach].add_(ahead, alpha=weight)
        reach, weight = 2 * reach, weight * weight
    return total


def episode_returns(reward: Tensor, episodes: Segments) -> Tensor:
    """Return R(tau) = sum_t r_t, undiscounted: float64 [E], reward units.

    Args:
        reward: float64 [N], canonical order.
        episodes: E segments over the N steps.
    """
    return episodes.sum(reward)


def return_rounding(reward: Tensor, episodes: Segments) -> Tensor:
    """Return how far apart two returns of an episode can be that only rounding tells apart: float64 [E], > 0.

    Args:
        reward: float64 [N], canonical order, reward units.
        episodes: E segments over the N steps.
    """
    size = episodes.sum(reward.abs())
    return _EPSILON * (1.0 + size * (episodes.count + _ROUNDINGS_OF_A_REWARD))


def group_rounding(reward: Tensor, groups: Segments) -> Tensor:
    """Return how large a difference of discounted returns of a group can be that only rounding makes: float64 [N], > 0.

    Args:
        reward: float64 [N], sorted by group, reward units.
        groups: the groups.
    """
    return _EPSILON * (1.0 + _ROUNDINGS_OF_A_REWARD * groups.broadcast(groups.sum(reward.abs())))


def levelled(values: Tensor, rounding: Tensor, group_id: Tensor) -> Tensor:
    """Give values of one group that only rounding tells apart one value, the smallest of them.

    Args:
        values: float64 [N], in any order.
        rounding: float64 [N]: what lies so near to a value is equal to it.
        group_id: int64 [N].

    Returns:
        float64 [N]: equal where equal, whatever the order in which rewards were added up.
    """
    by_value = torch.sort(values, stable=True).indices
    order = by_value.index_select(0, torch.sort(group_id.index_select(0, by_value), stable=True).indices)
    ascending, reach = values.index_select(0, order), rounding.index_select(0, order)
    home = group_id.index_select(0, order)
    opens = torch.ones_like(home, dtype=torch.bool)
    opens[1:] = (home[1:] != home[:-1]) | (ascending.diff() > torch.maximum(reach[1:], reach[:-1]))
    first = torch.cummax(torch.where(opens, torch.arange(len(home), device=home.device), 0), 0).values
    return torch.empty_like(values).index_copy_(0, order, ascending.index_select(0, first))
