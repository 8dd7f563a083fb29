"""Means with confidence intervals over a handful of seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

# Student's t, two-sided 95 %, by degrees of freedom from 1; any table of the distribution has these.
_T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """A mean and the half width of its 95 % confidence interval; None: one value has no interval."""

    mean: float
    half_width: float | None
    count: int

    def __str__(self) -> str:
        width = "" if self.half_width is None else f" ± {self.half_width:.3f}"
        return f"{self.mean:.3f}{width}"


def t_quantile_975(degrees: int) -> float:
    """Student's t with 97.5 % below it, for >= 1 degrees of freedom; beyond 30 by the normal's first correction."""
    if degrees <= len(_T_975):
        return _T_975[degrees - 1]
    z = NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * degrees)


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Mean with a t interval, the values being independent; None for no values."""
    if not values:
        return None
    count = len(values)
    half = None if count < 2 else t_quantile_975(count - 1) * stdev(values) / math.sqrt(count)
    return Interval(fmean(values), half, count)


def steps_to_reach(curve: Sequence[tuple[float, float]], threshold: float, window: int = 5) -> float | None:
    """First x at which the mean of the last `window` values of y reaches the threshold; None: it never does.

    Args:
        curve: (x, y) in order of x.
    """
    for end in range(window, len(curve) + 1):
        if fmean(y for _, y in curve[end - window : end]) >= threshold:
            return curve[end - 1][0]
    return None
