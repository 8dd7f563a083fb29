"""Anchor keys, and step groups of equal anchors."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.digest import anchor_digests
from gigpo_core.segments import Segments, segments_of_sorted

# Odd 64-bit constants (from the fraction of the golden ratio and of two square roots), as signed numbers.
_MIX = (-7046029254386353131, -4417276706812531889, 3935559000370003845)


@dataclass(frozen=True)
class Grouping:
    """Rows sorted so that the members of each step group are neighbours."""

    order: Tensor
    """int64 [N]: sorted row i is row `order[i]` of the input; input order inside a group."""
    groups: Segments
    """One segment per step group, over the sorted rows."""

    def arrange(self, column: Tensor) -> Tensor:
        """Return a column [N] in sorted order."""
        return column.index_select(0, self.order)

    def restore(self, column: Tensor) -> Tensor:
        """Return a column [N] that is in sorted order in the order of the input."""
        return torch.empty_like(column).index_copy_(0, self.order, column)


def anchor_keys(texts: Iterable[str]) -> Tensor:
    """Return the anchor digests of N texts as int64 [N, 2] on the CPU.

    The two numbers are the 16 bytes of `anchor_digest`, little-endian, so keys that an environment
    made without torch and keys made here are the same.

    Args:
        texts: N anchor texts; equal canonical forms give equal keys. None at all gives [0, 2].
    """
    words = array("q")
    words.frombytes(anchor_digests(texts))
    if sys.byteorder == "big":  # pragma: no cover - no such machine to try it on
        words.byteswap()
    if len(words) == 0:
        return torch.empty((0, 2), dtype=torch.int64)
    return torch.frombuffer(words, dtype=torch.int64).view(-1, 2)


def exact_step_groups(group_id: Tensor, anchor_key: Tensor) -> Grouping:
    """Group rows of one group whose anchor keys are equal.

    Source: GiGPO (arXiv:2505.10978), anchor state grouping. One sort of a 64-bit mix of (group, key), then
    runs of equal (group, key). Should two of them share a mix, they are sorted in full instead:
    the result is exact whatever the keys are.

    Args:
        group_id: int64 [N].
        anchor_key: int64 [N, 2].

    Returns:
        The grouping; repeats inside one episode belong to the same step group.
    """
    mixed = (anchor_key[:, 0] ^ (group_id * _MIX[0])) * _MIX[1]
    mixed += anchor_key[:, 1] * _MIX[2]
    sorted_mix, order = torch.sort(mixed, stable=True)
    changes = _key_changes(group_id, anchor_key, order)
    if not torch.equal(changes, sorted_mix[1:] != sorted_mix[:-1]):
        order = _lexicographic((group_id, anchor_key[:, 0], anchor_key[:, 1]))
        changes = _key_changes(group_id, anchor_key, order)
    return Grouping(order, segments_of_sorted(changes, group_id.device))


def first_appearance_labels(grouping: Grouping, row: Tensor | None) -> Tensor:
    """Return dense labels 0 .. S-1 of the step groups, numbered by first appearance.

    Args:
        grouping: the step groups over canonical rows.
        row: int64 [N]: the given row of each canonical row; None: the same.

    Returns:
        int64 [N] in given row order: the first row has label 0, the next new group label 1, ...
    """
    groups, order = grouping.groups, grouping.order
    rows = order if row is None else row.index_select(0, order)
    if row is None:
        first = order.index_select(0, groups.start)  # the sort is stable: a group starts with its first row
    else:
        first = torch.full_like(groups.start, len(order)).scatter_reduce_(0, groups.segment, rows, "amin")
    opens = torch.zeros_like(order).index_fill_(0, first, 1)
    label = (torch.cumsum(opens, 0) - 1).index_select(0, first)  # [S]
    return torch.empty_like(order).index_copy_(0, rows, groups.broadcast(label))


def _key_changes(group_id: Tensor, anchor_key: Tensor, order: Tensor) -> Tensor:
    group, key = group_id.index_select(0, order), anchor_key.index_select(0, order)
    changes = group[1:] != group[:-1]
    for word in key.unbind(1):
        changes |= word[1:] != word[:-1]
    return changes


def _lexicographic(columns: tuple[Tensor, ...]) -> Tensor:
    order = torch.arange(len(columns[0]), device=columns[0].device)
    for column in reversed(columns):
        order = order.index_select(0, torch.sort(column.index_select(0, order), stable=True).indices)
    return order
