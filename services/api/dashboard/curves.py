"""The points of a job's curves. The browser draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import fmean

from services.contracts.intervals import wilson_interval
from services.contracts.metrics import MEMBER
from services.presentation.panels import PANELS, Panel, panels_of

MOST_POINTS = 600
"""A curve on a page has no more points than this: it is drawn some 400 pixels wide. Zooming in brings the others."""
_WHOLE = "_whole"
"""The ending of the name of a metric that is the sum of a panel's parts."""

_HELD_OUT = {"batch": "version", "success": "success", "error": "standard_error"}
"""Field of a point -> field of an evaluation."""

SUCCESS_ABOUT = "band: 95 %, or the range over seeds; dots are held out"

Row = Mapping[str, object]
Point = Mapping[str, float]

_AXES = frozenset({"batch", "env_steps", "tokens", "at_unix_s"})
"""The choices of the x axis."""
_WANTED = frozenset(metric for panel in PANELS for metric, _ in panel.series) | _AXES
_OF_MEMBERS = tuple(MEMBER.values())
_SUMMED = tuple(panel for panel in PANELS if panel.kind == "stack" and not panel.share)


def panel_documents(panels: Sequence[Panel] = PANELS) -> list[dict[str, object]]:
    """The panels as JSON values."""
    return [asdict(panel) for panel in panels]


def comparison_panels(members: Sequence[str] = ()) -> list[Panel]:
    """The panels with one series each, so that lines are jobs and every chart shows what its title says.

    Args:
        members: those of mixtures among the jobs; each has charts of its own.

    Step-group sizes are left out: their parts tell nothing one by one.
    """
    found = []
    for panel in panels_of(members):
        if panel.key == "sizes":
            continue
        series = panel.series
        if panel in _SUMMED and len(series) > 1:
            series = ((panel.key + _WHOLE, "the whole"), *series)
        for metric, label in series:
            title = panel.title if len(series) == 1 else f"{panel.title}: {label}"
            kind = "lines" if panel.kind == "stack" else panel.kind
            about = SUCCESS_ABOUT if panel.key == "success" else panel.about
            found.append(
                replace(
                    panel, about=about, key=f"{panel.key}.{metric}", title=title, series=((metric, label),), kind=kind
                )
            )
    return found


def point(row: Row) -> dict[str, float]:
    """The part of a batch's metrics that the charts draw."""
    drawn = (name for name in row if name in _WANTED or name.startswith(_OF_MEMBERS))
    found = {name: value for name in drawn if isinstance(value := row[name], int | float)}
    for panel in _SUMMED:
        if parts := [found[metric] for metric, _ in panel.series if metric in found]:
            found[panel.key + _WHOLE] = math.fsum(parts)
    if "success" in found and isinstance(episodes := row.get("episodes"), int | float) and episodes:
        found["success_low"], found["success_high"] = wilson_interval(found["success"], episodes)
    return found


def points(rows: Sequence[Row], started_unix_s: float | None = None) -> list[dict[str, float]]:
    """The points of all batches, each with the environment steps, tokens and seconds until then.

    Seconds are counted from `started_unix_s`, or from the first batch.
    """
    found, steps, tokens = [], 0.0, 0.0
    began = started_unix_s if started_unix_s is not None else next((point(row).get("at_unix_s") for row in rows), None)
    for one in map(point, rows):
        steps, tokens = steps + one.get("env_steps", 0), tokens + one.get("tokens", 0)
        elapsed = max(one["at_unix_s"] - began, 0.0) if began is not None and "at_unix_s" in one else 0.0
        found.append({**one, "env_steps_so_far": steps, "tokens_so_far": tokens, "elapsed_s": elapsed})
    return found


def thinned(rows: Sequence[dict[str, float]], low: int = 0, high: int | None = None) -> list[dict[str, float]]:
    """Those of the batches from `low` to `high`, at most `MOST_POINTS`, evenly spread, the first and the newest too."""
    inside = [row for row in rows if low <= row["batch"] and (high is None or row["batch"] <= high)]
    stride = max(-(-len(inside) // (MOST_POINTS - 1)), 1)
    from_the_end = inside[::-1][::stride][::-1]
    return [*inside[: from_the_end[:1] != inside[:1]], *from_the_end]


def mean_over_seeds(runs: Sequence[Sequence[Point]]) -> list[dict[str, float]]:
    """The points of jobs that differ in their seed only as one run.

    Each batch has the mean over the runs that have trained it, and of every metric the smallest and largest value in
    `<metric>_low` and `<metric>_high`. Batches that only some of the runs have reached end the curve: a mean over fewer
    runs would jump.
    """
    by_batch = [{int(row["batch"]): row for row in rows} for rows in runs]
    shared = sorted(set.intersection(*map(set, by_batch)) if by_batch else ())
    return [_mean([rows[batch] for rows in by_batch]) for batch in shared]


def _mean(rows: Sequence[Point]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in sorted(set.union(*(set(row) for row in rows))):
        if name.endswith(("_low", "_high")):
            continue  # a run's own interval says nothing about the runs
        values = [row[name] for row in rows if name in row]
        found[name] = fmean(values)
        if name not in _AXES and not name.endswith("_so_far"):
            found[f"{name}_low"], found[f"{name}_high"] = min(values), max(values)
    return {**found, "batch": int(found["batch"])}


def held_out(evaluations: Sequence[Row]) -> list[dict[str, float]]:
    """The evaluations of the policy itself, as points with one standard error."""
    return [
        {name: value for name, key in _HELD_OUT.items() if isinstance(value := one[key], int | float)}
        for one in evaluations
        if one.get("label") in {"before", "during", "after"}
    ]


def mean_held_out(runs: Sequence[Sequence[Point]]) -> list[dict[str, float]]:
    """The held-out points that all runs have: their mean, and its standard error from those of the runs."""
    by_version = [{one["batch"]: one for one in found} for found in runs]
    shared = sorted(set.intersection(*map(set, by_version)) if by_version else ())
    return [
        {
            "batch": version,
            "success": fmean(found[version]["success"] for found in by_version),
            "error": math.hypot(*(found[version]["error"] for found in by_version)) / len(by_version),
        }
        for version in shared
    ]
