"""What a batch of advantages looks like from outside. Returned, never printed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.advantages import Advantages
from gigpo_core.anchors import exact_step_groups


@dataclass(frozen=True)
class StepGroupDiagnostics:
    """Shape of the step groups and of the advantages of one batch; shares are in [0, 1]."""

    steps: int
    step_groups: int
    size_histogram: dict[int, int]
    """Size of a step group -> number of groups of that size, ascending."""
    mean_size: float
    singleton_share: float
    """Share of steps that are alone in their step group, so A^S = 0."""
    zero_spread_share: float
    """Share of steps in a step group of two or more whose returns are all equal."""
    nonzero_step_share: float
    """Share of steps with A^S != 0: where the step level has something to say."""
    nonzero_episode_share: float
    """Share of steps with A^E != 0."""
    mean_episode_advantage: float
    """Mean of A^E over steps: the mean before the step level is added."""
    mean_advantage: float
    """Mean of A over steps: the mean after it is added."""


def step_group_diagnostics(result: Advantages) -> StepGroupDiagnostics:
    """Return the diagnostics of a batch; all shares and means are 0 for a batch of no steps."""
    steps = len(result.step_group)
    if steps == 0:
        return StepGroupDiagnostics(0, 0, {}, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    size = torch.bincount(result.step_group)
    of_size = torch.bincount(size)
    shared = size.index_select(0, result.step_group) > 1
    level = _spreads(result.step_return, result.step_group, len(size)).index_select(0, result.step_group) == 0
    return StepGroupDiagnostics(
        steps=steps,
        step_groups=len(size),
        size_histogram={n: count for n, count in enumerate(of_size.tolist()) if count},
        mean_size=steps / len(size),
        singleton_share=_share(~shared),
        zero_spread_share=_share(shared & level),
        nonzero_step_share=_share(result.step_advantage != 0),
        nonzero_episode_share=_share(result.episode_advantage != 0),
        mean_episode_advantage=float(result.episode_advantage.mean()),
        mean_advantage=float(result.advantage.mean()),
    )


@dataclass(frozen=True)
class AliasingDiagnostics:
    """How far anchors stand for more than one state of the environment; shares are in [0, 1]."""

    anchors: int
    """Different (group, anchor) pairs."""
    aliased_anchors: int
    """Those whose rows have more than one exact state: they compare what is not comparable."""
    aliased_step_share: float
    """Share of steps in such an anchor."""


def aliasing_diagnostics(group_id: Tensor, anchor_key: Tensor, state_key: Tensor) -> AliasingDiagnostics:
    """Return how many anchors hide different states.

    Args:
        group_id: int64 [N].
        anchor_key: int64 [N, 2].
        state_key: int64 [N, 2], the digest of the full state, where an environment can tell it.

    Returns:
        Counts and a share; all 0 for no rows.
    """
    if len(group_id) == 0:
        return AliasingDiagnostics(0, 0, 0.0)
    grouping = exact_step_groups(group_id, anchor_key)
    state = state_key.index_select(0, grouping.order)
    first = grouping.groups.broadcast(state.index_select(0, grouping.groups.start))
    mixed = grouping.groups.sum((state != first).any(1).to(torch.int64)) > 0
    return AliasingDiagnostics(len(mixed), int(mixed.sum()), _share(grouping.groups.broadcast(mixed)))


def _spreads(values: Tensor, label: Tensor, labels: int) -> Tensor:
    high = values.new_zeros(labels).scatter_reduce_(0, label, values, "amax", include_self=False)
    return high - values.new_zeros(labels).scatter_reduce_(0, label, values, "amin", include_self=False)


def _share(flags: Tensor) -> float:
    return float(flags.to(torch.float64).mean())
