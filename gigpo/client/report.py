"""`report.html`: one file that explains a job to somebody who was not there; pictures are inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape

import yaml
from pydantic import JsonValue

from gigpo.client.models import Job
from services.contracts.summary import EvaluationResult, JobSummary, PanelResult
from services.presentation.batch_pictures import PARTS, BatchPicture, pictures
from services.presentation.evaluations import named_results

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #8884; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; background: white; border-radius: 4px; }
pre { background: #8882; padding: .8rem; overflow-x: auto; border-radius: 4px; }
.error { color: #c33; }
"""


def report_html(
    job: Job,
    summary: JobSummary | None,
    evaluations: Sequence[EvaluationResult],
    curves: bytes | None,
    metrics: Sequence[Mapping[str, object]] = (),
) -> str:
    """The report.

    Args:
        summary: None when the job ended without one.
        curves: PNG; None: there were no batches.
        metrics: a record for each batch.
    """
    title = f"Job {job.name or job.id}"
    error = f'<p class="error">{escape(job.error)}</p>' if job.error else ""
    spec = yaml.safe_dump(job.spec or {}, sort_keys=False)
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(job.id)}: <strong>{escape(job.state)}</strong></p>{error}",
        _section("Summary", summary_table(summary) if summary else "<p>The job ended without a summary.</p>"),
        _section("Evaluations", evaluations_table(evaluations) if evaluations else ""),
        _section("Curves", picture(curves) if curves else ""),
        _section("Time of each batch", batches_table(pictures(metrics))),
        _section("Spec", f"<pre>{escape(spec)}</pre>"),
    ]
    return page(title, "".join(parts))


def page(title: str, body: str) -> str:
    """A whole HTML document without any reference to another file."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def summary_rows(summary: JobSummary) -> list[tuple[str, str]]:
    """(name, value) of the summary, nested ones joined, evaluations left out: they have a table of their own."""
    rows: list[tuple[str, str]] = []
    for name, value in summary.model_dump(mode="json", exclude={"evaluations"}).items():
        if isinstance(value, Mapping):
            for inner, one in value.items():
                if isinstance(one, Mapping):
                    text = ", ".join(f"{key} {number}" for key, number in one.items() if number) or "none"
                else:
                    text = number_text(one)
                rows.append((f"{name}: {inner}", text))
        else:
            rows.append((name, number_text(value)))
    return rows


def number_text(value: JsonValue) -> str:
    """A value as people read it: floats with four significant digits, a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, str) else json.dumps(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def summary_table(summary: JobSummary) -> str:
    rows = "".join(
        f'<tr><th>{escape(name)}</th><td class="number">{escape(text)}</td></tr>'
        for name, text in summary_rows(summary)
    )
    return f"<table>{rows}</table>"


def evaluations_table(evaluations: Sequence[EvaluationResult]) -> str:
    """Success with its standard error, one row an evaluation."""
    head = "<tr><th>what</th><th>version</th><th>episodes</th><th>success ± standard error</th><th>return</th>"
    head += "<th>steps</th><th>invalid actions</th><th>panel</th></tr>"
    rows = [_evaluation_row(name, one.version, result) for one in evaluations for name, result in named_results(one)]
    return f"<table>{head}{''.join(rows)}</table>"


def _evaluation_row(name: str, version: int, one: PanelResult) -> str:
    cells = [
        escape(name),
        number_text(version),
        number_text(one.episodes),
        f"{one.success:.3f} ± {one.standard_error:.3f}",
        f"{one.return_mean:.3f}",
        f"{one.length_mean:.1f}",
        f"{one.invalid_share:.1%}",
        one.panel or "–",
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


COLOURS = {
    "place": "#9aa5b1",
    "environment": "#3b82c4",
    "sampling": "#e08e2b",
    "scoring": "#8c6bb1",
    "training": "#3a9d5d",
    "publishing": "#c45b8a",
}


def batches_table(found: Sequence[BatchPicture]) -> str:
    """A bar of each batch's time, its slowest episode and a sentence of advice; empty where there is none."""
    if not found:
        return ""
    legend = " ".join(f'<span style="color:{COLOURS[key]}">&#9632;</span> {words}' for key, words in PARTS.values())
    head = "<tr><th>batch</th><th>where the time went</th><th>seconds</th><th>nobody worked</th>"
    head += "<th>slowest episode</th><th>advice</th></tr>"
    return f"<p>{legend}</p><table>{head}{''.join(map(_batch_row, found))}</table>"


def _batch_row(one: BatchPicture) -> str:
    bars, x = [], 0.0
    for part in one.parts:
        title = f"<title>{escape(part.words)}: {part.seconds:.3g} s, {part.share:.0%}</title>"
        size = f'x="{x:.1f}" width="{300 * part.share:.1f}" height="14"'
        bars.append(f'<rect {size} fill="{COLOURS[part.key]}">{title}</rect>')
        x += 300 * part.share
    idle = "–" if one.idle_share is None else f"{one.idle_share:.0%}"
    bar = f'<svg viewBox="0 0 300 14" width="300" height="14" role="img">{"".join(bars)}</svg>'
    cells = [str(one.number), bar, f"{one.seconds:.3g}", idle, escape(one.slowest) or "–", escape(one.advice)]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>{body}" if body else ""


def picture(png: bytes) -> str:
    return f'<img alt="curves" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
