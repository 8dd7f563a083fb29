"""Results as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from gigpo.client.compare import Row
from gigpo.client.comparison_report import header, table_rows
from gigpo.client.report import number_text, summary_rows
from services.contracts.summary import EvaluationResult, JobSummary
from services.presentation.evaluations import named_results


def summary_table(summary: JobSummary) -> Table:
    """Everything the job says of itself."""
    table = Table("summary", "", box=None, header_style="bold")
    for name, text in summary_rows(summary):
        table.add_row(name, text)
    return table


def evaluations_table(evaluations: Sequence[EvaluationResult]) -> Table:
    """Held-out success with its standard error, and the return, which judges own rewards; one row an evaluation."""
    names = ("evaluation", "episodes", "success", "return", "steps", "invalid", "panel")
    table = Table(*names, box=None, header_style="bold")
    for name, one in (named for result in evaluations for named in named_results(result)):
        table.add_row(
            name,
            number_text(one.episodes),
            f"{one.success:.3f} ± {one.standard_error:.3f}",
            f"{one.return_mean:.3f}",
            f"{one.length_mean:.1f}",
            f"{one.invalid_share:.1%}",
            one.panel or "–",
        )
    return table


def comparison_table(rows: Sequence[Row], threshold: float) -> Table:
    """One row an estimator, means ± half of the 95 % confidence interval."""
    table = Table(*header(threshold), box=None, header_style="bold")
    for line in table_rows(rows):
        table.add_row(*line)
    return table
