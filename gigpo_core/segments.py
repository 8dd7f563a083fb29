"""Runs of rows in a sorted column, and sums over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """S runs of neighbouring rows that cover N rows, none of them empty."""

    segment: Tensor
    """int64 [N], non-decreasing: the run of each row, 0 .. S-1."""
    start: Tensor
    """int64 [S]: the first row of each run."""
    count: Tensor
    """int64 [S], >= 1: the number of rows of each run."""

    def broadcast(self, per_segment: Tensor) -> Tensor:
        """Return [N, ...]: the value of each row's run, from [S, ...]."""
        return per_segment.index_select(0, self.segment)

    def sum(self, values: Tensor) -> Tensor:
        """Return [S]: the sum of [N] over each run.

        Rows are added in row order, whatever else is in the batch: on the CPU a run gets the same
        bits alone and among a million others, on CUDA too (one thread walks one run).
        """
        if values.is_cuda and values.is_floating_point():
            return torch.segment_reduce(values, "sum", lengths=self.count, unsafe=True)
        return values.new_zeros(len(self.count)).scatter_add_(0, self.segment, values)


def segments_of_sorted(changes: Tensor, device: torch.device) -> Segments:
    """Return the runs of a sorted column from where it changes.

    Args:
        changes: bool [N-1] (or [0] for N <= 1): whether row i+1 differs from row i.
        device: where `changes` is and the runs shall be.

    A column of no rows cannot be told from one of one row here; callers return early for N = 0.
    """
    segment = torch.zeros(len(changes) + 1, dtype=torch.int64, device=device)
    torch.cumsum(changes, 0, out=segment[1:])
    # This is as fast as bincount on a CPU; on a device the host waits for one number, not for two as with bincount.
    count = segment.new_zeros(int(segment[-1]) + 1).scatter_add_(0, segment, torch.ones_like(segment))
    return Segments(segment, torch.cumsum(count, 0) - count, count)


def sort_by_group(group_id: Tensor) -> tuple[Tensor, Segments]:
    """Return the stable order of N >= 1 rows by group, int64 [N], and the groups as runs of it, by ascending id.

    Args:
        group_id: int64 [N].
    """
    if bool((group_id[1:] >= group_id[:-1]).all()):
        order, arranged = torch.arange(len(group_id), device=group_id.device), group_id
    else:
        arranged, order = torch.sort(group_id, stable=True)
    return order, segments_of_sorted(arranged[1:] != arranged[:-1], group_id.device)
