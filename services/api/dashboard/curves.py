"""The points of a job's curves. The browser draws what it is told here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from services.contracts.intervals import wilson_interval
from services.contracts.panels import PANELS, Panel

MOST_POINTS = 600
"""A curve on a page has no more points than this: it is drawn some 400 pixels wide."""

Row = Mapping[str, Any]

_WANTED = frozenset(metric for panel in PANELS for metric, _ in panel.series) | {"batch"}


def panel_documents(panels: Sequence[Panel] = PANELS) -> list[dict[str, Any]]:
    """The panels as JSON values."""
    return [asdict(panel) for panel in panels]


def point(row: Row) -> dict[str, float]:
    """What the charts need of one batch's metrics."""
    found = {name: value for name, value in row.items() if name in _WANTED and isinstance(value, int | float)}
    if "success" in found and (episodes := row.get("episodes")):
        found["success_low"], found["success_high"] = wilson_interval(found["success"], episodes)
    return found


def points(rows: Sequence[Row]) -> list[dict[str, float]]:
    """At most `MOST_POINTS` of them, evenly spread, the newest always among them."""
    stride = max(-(-len(rows) // MOST_POINTS), 1)
    return [point(row) for row in rows[(len(rows) - 1) % stride :: stride]] if rows else []


def held_out(evaluations: Sequence[Row]) -> list[dict[str, Any]]:
    """The evaluations of the policy itself, as points with one standard error."""
    return [
        {"batch": one["version"], "success": one["success"], "error": one["standard_error"]}
        for one in evaluations
        if one.get("label") in {"before", "during", "after"}
    ]
