"""The points of a job's curves. The browser draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from services.contracts.panels import PANELS, Panel

MOST_POINTS = 600
"""A curve on a page has no more points than this: it is drawn some 400 pixels wide."""
_Z = 1.96
"""Standard normal quantile of a 95 % interval."""

Row = Mapping[str, object]

_WANTED = frozenset(metric for panel in PANELS for metric, _ in panel.series) | {"batch"}


def panel_documents(panels: Sequence[Panel] = PANELS) -> list[dict[str, object]]:
    """The panels as JSON values."""
    return [asdict(panel) for panel in panels]


def point(row: Row) -> dict[str, float]:
    """What the charts need of one batch's metrics."""
    found = {name: value for name, value in row.items() if name in _WANTED and isinstance(value, int | float)}
    if "success" in found and isinstance(episodes := row.get("episodes"), int | float) and episodes:
        found["success_low"], found["success_high"] = wilson_interval(found["success"], episodes)
    return found


def points(rows: Sequence[Row]) -> list[dict[str, float]]:
    """At most `MOST_POINTS` of them, evenly spread, the newest always among them."""
    stride = max(-(-len(rows) // MOST_POINTS), 1)
    return [point(row) for row in rows[(len(rows) - 1) % stride :: stride]] if rows else []


def wilson_interval(share: float, count: float) -> tuple[float, float]:
    """The 95 % Wilson interval of a share observed in `count` trials; inside [0, 1] also at its ends."""
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(max(share * (1 - share), 0.0) / count + _Z**2 / (4 * count**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def held_out(evaluations: Sequence[Row]) -> list[dict[str, object]]:
    """The evaluations of the policy itself, as points with one standard error."""
    return [
        {"batch": one["version"], "success": one["success"], "error": one["standard_error"]}
        for one in evaluations
        if one.get("label") in {"before", "during", "after"}
    ]
