"""Diagnostics of the groups of a batch. They are returned, never printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.advantages import Advantages, step_rewards
from gigpo_core.batch import OrderedSteps, StepBatch, check_columns, order_steps
from gigpo_core.config import AdvantageConfig
from gigpo_core.returns import episode_returns, return_rounding
from gigpo_core.segments import Segments, sort_by_group


@dataclass(frozen=True)
class GroupDiagnostics:
    """Diagnostics of each of G groups, in ascending order of their ids. Sums and counts, so that those of many groups
    add up to those of all; but for the largest step group and the spread. All on the batch's device."""

    group_id: Tensor
    """int64 [G]."""
    steps: Tensor
    """int64 [G]: rows of the group, >= 1."""
    step_groups: Tensor
    """int64 [G]: >= 1."""
    step_group_largest: Tensor
    """int64 [G]: rows of the largest step group."""
    rows_by_size: Tensor
    """int64 [G, B]: rows in step groups of at least each bin's size and below the next one's. Rows alone in their step
    group, all of them in a group where no state recurs, have nothing to be compared with: A^S is 0."""
    shared_anchor_rows: Tensor
    """int64 [G]: rows in step groups of two and more."""
    useful_anchor_rows: Tensor
    """int64 [G]: rows where the step level tells actions apart: A^S is not 0."""
    aliased_anchor_rows: Tensor
    """int64 [G]: rows in step groups whose members were in different exact states: they compare what is not quite
    comparable. All 0 where the batch has no `state_key`."""
    abs_episode_advantage_sum: Tensor
    """float64 [G]: sum of |A^E| over the rows."""
    abs_step_advantage_sum: Tensor
    """float64 [G]: sum of |omega A^S|, the step level's share of A."""
    return_spread: Tensor
    """float64 [G], reward units, >= 0: the best episode's return less the worst one's. Exactly 0 where all are equal
    but for the rounding of their sums, and in a group of one episode: such a group teaches nothing on the episode
    level (DAPO drops it, arXiv:2503.14476, equation 11)."""


def group_diagnostics(
    batch: StepBatch, config: AdvantageConfig, result: Advantages, bins: Sequence[int] = (1, 2, 4, 8, 16)
) -> GroupDiagnostics:
    """Return the diagnostics of each group of a batch that `compute_advantages` was given.

    What a group's diagnostics are does not depend on the other groups of the batch, bit for bit.

    Args:
        batch: N steps; N = 0 gives G = 0.
        config: the one `result` was computed with; read for the rewards and omega.
        result: what `compute_advantages` returned for them.
        bins: ascending, the first one 1: least sizes of the B bins.

    Raises:
        ShapeError, DtypeError, RowError: as `compute_advantages`.
        ConfigError: as `step_rewards`.
    """
    extent = check_columns(batch)
    if extent.rows == 0:
        return _none(len(bins), batch.group_id.device)
    order, groups = sort_by_group(batch.group_id)
    label = result.step_group.index_select(0, order)
    home = groups.segment.new_empty(int(label.max()) + 1).scatter_(0, label, groups.segment)  # group of a step group
    size = torch.bincount(label)
    own = size.index_select(0, label)
    edges = torch.tensor(tuple(bins)[1:], dtype=torch.int64, device=label.device)
    cell = groups.segment * len(bins) + torch.bucketize(own, edges, right=True)
    step_advantage = result.step_advantage.index_select(0, order)
    return GroupDiagnostics(
        group_id=batch.group_id.index_select(0, order).index_select(0, groups.start),
        steps=groups.count,
        step_groups=torch.bincount(home, minlength=len(groups.count)),
        step_group_largest=torch.zeros_like(groups.count).scatter_reduce_(0, home, size, "amax"),
        rows_by_size=torch.bincount(cell, minlength=len(groups.count) * len(bins)).view(-1, len(bins)),
        shared_anchor_rows=groups.sum((own > 1).long()),
        useful_anchor_rows=groups.sum((step_advantage != 0).long()),
        aliased_anchor_rows=_aliased_rows(batch, order, label, groups),
        abs_episode_advantage_sum=groups.sum(result.episode_advantage.index_select(0, order).abs()),
        abs_step_advantage_sum=groups.sum((config.step_weight * step_advantage).abs()),
        return_spread=_return_spread(batch, config, order_steps(batch, extent)),
    )


def _aliased_rows(batch: StepBatch, order: Tensor, label: Tensor, groups: Segments) -> Tensor:
    if batch.state_key is None:
        return torch.zeros_like(groups.count)
    state = batch.state_key.index_select(0, order)
    member = label.new_empty(int(label.max()) + 1).scatter_(0, label, torch.arange(len(label), device=label.device))
    other = (state != state.index_select(0, member.index_select(0, label))).any(1).long()
    mixed = torch.zeros_like(member).scatter_reduce_(0, label, other, "amax")
    return groups.sum(mixed.index_select(0, label))


def _return_spread(batch: StepBatch, config: AdvantageConfig, steps: OrderedSteps) -> Tensor:
    reward = steps.arrange(step_rewards(batch, config))
    total = episode_returns(reward, steps.episodes)
    uncertain = return_rounding(reward, steps.episodes)
    groups, group = torch.unique(steps.group_id.index_select(0, steps.episodes.start), return_inverse=True)

    def extreme(values: Tensor, which: str) -> Tensor:
        return values.new_zeros(len(groups)).scatter_reduce_(0, group, values, which, include_self=False)

    spread = extreme(total, "amax") - extreme(total, "amin")
    return torch.where(spread > extreme(uncertain, "amax"), spread, 0.0)


def _none(bins: int, device: torch.device) -> GroupDiagnostics:
    count, amount = (torch.zeros(0, dtype=dtype, device=device) for dtype in (torch.int64, torch.float64))
    return GroupDiagnostics(
        group_id=count,
        steps=count,
        step_groups=count,
        step_group_largest=count,
        rows_by_size=count.view(0, bins),
        shared_anchor_rows=count,
        useful_anchor_rows=count,
        aliased_anchor_rows=count,
        abs_episode_advantage_sum=amount,
        abs_step_advantage_sum=amount,
        return_spread=amount,
    )
