"""Curves of a job as a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import JsonValue

from services.contracts.summary import EvaluationResult
from services.presentation.panels import Panel, members_in
from services.presentation.panels import panels_of as of_members

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3


def panels_of(metrics: Sequence[Mapping[str, JsonValue]]) -> list[Panel]:
    """The panels that have something to show, with the series that do."""
    known = {
        name
        for row in metrics
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    panels = of_members(members_in(known))
    shown = [replace(one, series=tuple(pair for pair in one.series if pair[0] in known)) for one in panels]
    return [panel for panel in shown if panel.series]


def curves_png(metrics: Sequence[Mapping[str, JsonValue]], evaluations: Sequence[EvaluationResult]) -> bytes | None:
    """All panels over batches in one picture; held-out success with its standard error on the first one.

    None: there is nothing to draw.
    """
    panels = panels_of(metrics)
    if not panels:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # the object interface: no global state, no display
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(4.2 * min(_COLUMNS, len(panels)), 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, min(_COLUMNS, len(panels)), squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, panel in zip(axes, panels, strict=False):
        for name, label in panel.series:
            points = [(row["batch"], row[name]) for row in metrics if row.get(name) is not None and "batch" in row]
            axis.plot([x for x, _ in points], [y for _, y in points], label=label, linewidth=1.4)
        axis.set_title(f"{panel.title}, {panel.unit}", fontsize=10)
        axis.set_xlabel("batch", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        if panel.key == "success":
            _held_out(axis, evaluations)
        if panel.share:
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
        if len(panel.series) > 1:
            axis.legend(fontsize=7)
    output = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(output, format="png", dpi=110)
    return output.getvalue()


def _held_out(axis: Axes, evaluations: Sequence[EvaluationResult]) -> None:
    of_policy = [one for one in evaluations if one.label in {"before", "during", "after"}]
    if of_policy:
        x = [one.version for one in of_policy]
        y = [one.success for one in of_policy]
        error = [one.standard_error for one in of_policy]
        axis.errorbar(x, y, yerr=error, fmt="o", markersize=4, capsize=3, color="black", label="held out")
        axis.legend(fontsize=7)
    axis.set_ylim(-0.02, 1.02)
