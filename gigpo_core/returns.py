"""Returns of steps and of episodes."""

from __future__ import annotations

from torch import Tensor

from gigpo_core.segments import Segments


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
