"""Curves of a job as a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

PANELS: dict[str, tuple[str, ...]] = {
    "success": ("success",),
    "return": ("return_mean",),
    "advantage shares": ("episode_advantage_share", "step_advantage_share"),
    "episode length, steps": ("length_mean",),
    "invalid actions, share": ("invalid_share",),
    "useful anchors, share of steps": ("useful_anchor_share",),
    "step-group size": ("step_group_size_mean",),
    "entropy, nats per token": ("entropy",),
    "mismatch KL, nats per token": ("mismatch_kl",),
    "KL to the reference, nats per token": ("kl",),
    "loss": ("loss",),
    "gradient norm": ("grad_norm",),
    "learning rate": ("learning_rate",),
    "staleness, versions": ("staleness_mean", "staleness_max"),
    "tokens/s": ("tokens_per_s",),
    "wall time of a batch, s": ("wait_s", "train_s", "publish_s"),
}
"""Title -> metrics drawn in it; a panel without any value is left out."""
_COLUMNS = 3


def panels_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The panels that have something to show."""
    known = {
        name
        for row in metrics
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    shown = {title: [name for name in names if name in known] for title, names in PANELS.items()}
    return {title: names for title, names in shown.items() if names}


def curves_png(metrics: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]) -> bytes | None:
    """All panels over batches in one picture; held-out success with its standard error on the first one.

    None: there is nothing to draw.
    """
    panels = panels_of(metrics)
    if not panels:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # the object interface: no global state, no display
    from matplotlib.figure import Figure

    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(4.2 * min(_COLUMNS, len(panels)), 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, min(_COLUMNS, len(panels)), squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, names) in zip(axes, panels.items(), strict=False):
        for name in names:
            points = [(row["batch"], row[name]) for row in metrics if row.get(name) is not None and "batch" in row]
            axis.plot([x for x, _ in points], [y for _, y in points], label=name, linewidth=1.4)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("batch", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        if title == "success":
            _held_out(axis, evaluations)
        if len(names) > 1:
            axis.legend(fontsize=7)
    output = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(output, format="png", dpi=110)
    return output.getvalue()


def _held_out(axis: Any, evaluations: Sequence[Mapping[str, Any]]) -> None:
    of_policy = [one for one in evaluations if one.get("label") in {"before", "during", "after"}]
    if of_policy:
        x = [one["version"] for one in of_policy]
        y = [one["success"] for one in of_policy]
        error = [one["standard_error"] for one in of_policy]
        axis.errorbar(x, y, yerr=error, fmt="o", markersize=4, capsize=3, color="black", label="held out")
        axis.legend(fontsize=7)
    axis.set_ylim(-0.02, 1.02)
