"""A comparison as a table, a picture and one HTML file."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING

from gigpo.client.budget import Budget, Result
from gigpo.client.compare import Row, success_curve
from gigpo.client.contrast import Contrast
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
        "tokens",
        "seconds",
    ]


def table_rows(rows: Sequence[Row]) -> list[list[str]]:
    """The rows as text, below each those of a mixture's members."""
    return [line for row in rows for line in (cells(row), *_member_cells(row))]


def _member_cells(row: Row) -> list[list[str]]:
    return [[f"· {name}", "", "", str(success), "", "", "", "", ""] for name, success in row.members.items()]


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
        *(f"{one.mean:,.0f}" if one else "–" for one in (row.env_steps, row.tokens, row.seconds)),
    ]


def notes(rows: Sequence[Row]) -> list[str]:
    """Notes on its estimators for a reader of the table."""
    if any(row.estimator == "rloo" for row in rows):
        return ["rloo is unscaled: `norm: mean_std` scales the others, and nothing in rloo"]
    return []


def _text(interval: Interval | None) -> str:
    return "–" if interval is None else str(interval)


def point(budget: Budget | None) -> str:
    """The place of the comparison of the estimators, in words."""
    if budget is None:
        return "after training, at equal batches"
    return f"at equal {budget.unit.replace('_', ' ')}: {budget.amount:,.0f}, which the cheapest job spent in all"


def rows_json(rows: Sequence[Row], contrasts: Sequence[Contrast], budget: Budget | None = None) -> JsonObject:
    """Rows and contrasts as JSON values."""
    return {
        "budget": None if budget is None else dataclasses.asdict(budget),
        "rows": [dataclasses.asdict(row) for row in rows],
        "contrasts": [{**dataclasses.asdict(one), "settled": one.settled} for one in contrasts],
    }


def rows_csv(rows: Sequence[Row], threshold: float) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header(threshold), *table_rows(rows)])
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
    right.set(ylabel="held-out success, 95 % CI", ylim=(0, 1.05))
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
    title: str,
    rows: Sequence[Row],
    contrasts: Sequence[Contrast],
    threshold: float,
    png: bytes,
    budget: Budget | None = None,
) -> str:
    """One file without references."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header(threshold))
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in table_rows(rows))
    below = "".join(f"<p>{escape(note)}</p>" for note in notes(rows))
    paired = "".join(f"<li>{escape(str(one))}</li>" for one in contrasts)
    return page(
        title,
        f"<h1>{escape(title)}</h1><p>Means over seeds ± half of the 95 % confidence interval (Student's t); held-out "
        f"success {escape(point(budget))}.</p><table><tr>{head}</tr>{body}</table>{below}"
        f"<h2>Differences of held-out success, paired by task and seed</h2><ul>{paired}</ul>"
        f"{picture(png)}",
    )
