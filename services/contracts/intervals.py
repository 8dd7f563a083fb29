"""Confidence intervals of measured shares."""

from __future__ import annotations

import math

_Z = 1.96
"""Standard normal quantile of a 95 % interval."""


def wilson_interval(share: float, count: float) -> tuple[float, float]:
    """The 95 % Wilson interval of a share observed in `count` trials; inside [0, 1] also at its ends."""
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(max(share * (1 - share), 0.0) / count + _Z**2 / (4 * count**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)
