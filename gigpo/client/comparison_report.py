"""A comparison as a table, a picture and one HTML file."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING

from gigpo.client.compare import Result, Row, success_curve
from gigpo.client.models import JsonObject
from gigpo.client.report import page, picture
from gigpo.client.statistics import Interval, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")  # Tol's bright scheme


def header(threshold: float) -> list[str]:
    return [
        "estimator",
        "seeds",
        "success before",
        "success after",
        "mean success in training",
        f"batches to {threshold:g}",
        "env steps",
    ]


def cells(row: Row) -> list[str]:
    """The row as text, means with 95 % confidence intervals."""
    reached = f"{row.batches_to_threshold.mean:.0f} ({row.reached}/{row.seeds})" if row.batches_to_threshold else "–"
    return [
        row.estimator,
        str(row.seeds),
        _text(row.success_before),
        _text(row.success_after),
        _text(row.training_success),
        reached,
        f"{row.env_steps.mean:,.0f}" if row.env_steps else "–",
    ]


def notes(rows: Sequence[Row]) -> list[str]:
    """Notes on its estimators for a reader of the table."""
    if any(row.estimator == "rloo" for row in rows):
        return ["rloo is unscaled: `norm: mean_std` scales the others, and nothing in rloo"]
    return []


def _text(interval: Interval | None) -> str:
    return "–" if interval is None else str(interval)


def rows_json(rows: Sequence[Row], differences: Mapping[str, Interval]) -> JsonObject:
    """Rows and differences as JSON values."""
    return {
        "rows": [dataclasses.asdict(row) for row in rows],
        "paired_differences_of_success_after": {pair: dataclasses.asdict(one) for pair, one in differences.items()},
    }


def rows_csv(rows: Sequence[Row], threshold: float) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header(threshold), *map(cells, rows)])
    return text.getvalue()


def comparison_png(results: Sequence[Result], rows: Sequence[Row], threshold: float) -> bytes:
    """Left: training success over batches, each seed thin and the mean with its interval; right: held out, after."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2, 1])
    for row, color in zip(rows, _COLORS * len(rows), strict=False):
        curves = [success_curve(one.metrics) for one in results if one.estimator == row.estimator]
        _draw_curves(left, row.estimator, [curve for curve in curves if curve], color)
    left.axhline(threshold, color="gray", linewidth=0.8, linestyle=":")
    left.set(xlabel="batch", ylabel="success in training", ylim=(-0.02, 1.02))
    left.legend()
    for at, (row, color) in enumerate(zip(rows, _COLORS * len(rows), strict=False)):
        if row.success_after is not None:
            right.bar(at, row.success_after.mean, yerr=row.success_after.half_width or 0, color=color, capsize=4)
    right.set_xticks(range(len(rows)), [row.estimator for row in rows])
    right.set(ylabel="held-out success after, 95 % CI", ylim=(0, 1.05))
    for axis in (left, right):
        axis.grid(alpha=0.3)
    output = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(output, format="png", dpi=110)
    return output.getvalue()


def _draw_curves(axis: Axes, name: str, curves: Sequence[Sequence[tuple[float, float]]], color: str) -> None:
    by_batch: dict[float, list[float]] = {}
    for curve in curves:
        axis.plot([x for x, _ in curve], [y for _, y in curve], color=color, linewidth=0.5, alpha=0.5)
        for x, y in curve:
            by_batch.setdefault(x, []).append(y)
    batches = sorted(by_batch)
    axis.plot(batches, [fmean(by_batch[x]) for x in batches], color=color, linewidth=1.8, label=name)
    intervals = [mean_interval(by_batch[x]) for x in batches]
    low = [one.mean - (one.half_width or 0) for one in intervals if one]
    high = [one.mean + (one.half_width or 0) for one in intervals if one]
    axis.fill_between(batches, low, high, color=color, alpha=0.15)


def comparison_html(
    title: str, rows: Sequence[Row], differences: Mapping[str, Interval], threshold: float, png: bytes
) -> str:
    """One file without references."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header(threshold))
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells(row)) + "</tr>" for row in rows)
    below = "".join(f"<p>{escape(note)}</p>" for note in notes(rows))
    paired = "".join(
        f"<tr><td>{escape(pair)}</td><td>{escape(str(one))}</td><td>{one.count} seeds</td></tr>"
        for pair, one in differences.items()
    )
    return page(
        title,
        f"<h1>{escape(title)}</h1><p>Means over seeds ± half of the 95 % confidence interval (Student's t).</p>"
        f"<table><tr>{head}</tr>{body}</table>{below}"
        f"<h2>Paired differences of success after</h2><table>{paired}</table>"
        f"{picture(png)}",
    )
