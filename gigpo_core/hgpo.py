"""HGPO: step advantages from a hierarchy of groups with ever more shared history."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gigpo_core.anchors import Grouping, exact_step_groups
from gigpo_core.batch import OrderedSteps
from gigpo_core.levels import Comparison, Levels, episode_level
from gigpo_core.relative import centred, deviation


def hgpo(comparison: Comparison) -> Levels:
    """HGPO: A^S is the whole advantage; A^E takes part in it where `hgpo_base_group` says so, and is 0 otherwise."""
    config = comparison.config
    base = episode_level(comparison) if config.hgpo_base_group else None
    step = hierarchy_advantage(
        comparison.penalised(comparison.returns),
        comparison.steps,
        comparison.states,
        history=config.hgpo_history,
        alpha=config.hgpo_alpha,
        episode=base,
        scaled=config.norm == "mean_std",
        epsilon=config.epsilon,
    )
    return Levels(torch.zeros_like(step) if base is None else base, step, advantage=step)


def hierarchy_advantage(
    score: Tensor,
    steps: OrderedSteps,
    anchors: Grouping,
    *,
    history: int,
    alpha: float,
    episode: Tensor | None,
    scaled: bool,
    epsilon: float,
) -> Tensor:
    """Return A^H: the mean over levels k of the advantage among rows with the same last k anchors.

    Source: HGPO (arXiv:2602.22817) as its authors compute it: population standard
    deviation; at each level groups of one are dropped, and so is an advantage of exactly 0; the rest
    is weighed by (k+1)^alpha and divided by the sum of the weights + epsilon. Steps before step k-1
    have no k anchors yet and take no part in level k.

    Args:
        score: float64 [N], canonical order: the step return, less the penalty on an invalid action.
        steps: the canonical rows.
        anchors: the step groups of level k = 1.
        history: K >= 0; levels k = 1 .. K+1.
        alpha: exponent of the level weights; 0 weighs all alike.
        episode: float64 [N] or None: A^E, to take part as level k = 0.
        scaled: divide by the deviation + epsilon.
        epsilon: > 0.

    Returns:
        float64 [N], canonical order; 0 where no level has anything to compare.
    """
    total = torch.zeros_like(score) if episode is None else episode.clone()
    weight_sum = (total != 0).to(score.dtype)
    for k, level in history_levels(steps, anchors, history):
        weight = (k + 1.0) ** alpha
        relative = _relative(level, score, scaled=scaled, epsilon=epsilon) * (steps.position >= k - 1)
        total += weight * relative
        weight_sum += weight * (relative != 0)
    return total / (weight_sum + epsilon)


def history_levels(steps: OrderedSteps, anchors: Grouping, history: int) -> Iterator[tuple[int, Grouping]]:
    """Yield for k = 1 .. history+1 k and the groups of rows whose last k anchors are equal sequences.

    Rows with fewer than k anchors behind them are grouped apart from all others. Levels that no
    episode is long enough for are left out.

    Args:
        steps: the canonical rows.
        anchors: their step groups, which are level 1.
        history: K >= 0, how many earlier anchors the last level looks at.
    """
    current = anchors.restore(anchors.groups.segment)
    sequence = current
    yield 1, anchors
    for k in range(2, min(history + 1, steps.longest) + 1):
        # The last k anchors are the last k-1 of the step before, then the current one; none before step 0.
        before = torch.full_like(sequence, -1)
        before[1:] = torch.where(steps.position[1:] > 0, sequence[:-1], -1)
        level = exact_step_groups(current, torch.stack([before, before], dim=1))
        yield k, level
        sequence = level.restore(level.groups.segment)


def _relative(level: Grouping, score: Tensor, *, scaled: bool, epsilon: float) -> Tensor:
    difference = centred(level.arrange(score), level.groups)
    if scaled:
        spread = deviation(difference, level.groups, "population")
        difference = difference / level.groups.broadcast(spread + epsilon)
    return level.restore(difference)
