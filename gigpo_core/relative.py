"""Comparison of values with their own group, the operation that every estimator here uses."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gigpo_core.segments import Segments

Spread = Literal["sample", "population"]


def centred(values: Tensor, groups: Segments) -> Tensor:
    """Subtract the mean of its group from each value.

    Values are first shifted by the first value of their group. That changes nothing in exact
    arithmetic, and makes groups of equal values (also groups of one) come out as exactly 0.

    Args:
        values: float64 [N], sorted by group.
        groups: the groups.

    Returns:
        float64 [N].
    """
    shifted = values - groups.broadcast(values.index_select(0, groups.start))
    return shifted - groups.broadcast(groups.sum(shifted) / groups.count)


def group_mean(values: Tensor, groups: Segments) -> Tensor:
    """Return the mean of each group, float64 [S]; of equal values exactly that value.

    Args:
        values: float64 [N], sorted by group.
        groups: S segments over the N values.
    """
    first = values.index_select(0, groups.start)
    return first + groups.sum(values - groups.broadcast(first)) / groups.count


def deviation(centred_values: Tensor, groups: Segments, spread: Spread = "sample") -> Tensor:
    """Return the standard deviation of each group of already centred values: float64 [S].

    "sample" divides by n-1, "population" by n. A group of one has deviation 0.

    Args:
        centred_values: float64 [N], sorted by group; the mean of each group is 0.
        groups: S segments over the N values.
        spread: the divisor.
    """
    degrees = groups.count - 1 if spread == "sample" else groups.count
    return torch.sqrt(groups.sum(centred_values * centred_values) / degrees.clamp(min=1))


def group_relative(values: Tensor, groups: Segments, *, scaled: bool, epsilon: float) -> Tensor:
    """Centre each value on its group's mean; if `scaled`, divide by the sample deviation + epsilon.

    Source: GiGPO (arXiv:2505.10978), trajectory and step level; `scaled` is the paper's F_norm.

    Args:
        values: float64 [N], sorted by group.
        groups: the groups.
        scaled: F_norm is the deviation + epsilon; else 1.
        epsilon: added to the deviation, > 0, unit of the values.

    Returns:
        float64 [N]. A group of one, and a group of equal values, gets exactly 0.
    """
    difference = centred(values, groups)
    if not scaled:
        return difference
    return difference / groups.broadcast(deviation(difference, groups) + epsilon)
