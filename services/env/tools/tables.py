"""Findings and figures for people and for programs."""

import io
from collections.abc import Mapping, Sequence
from itertools import groupby

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from services.env.tools.conformance import Finding, Result

WIDTH = 160


def _text(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=WIDTH, highlight=False, soft_wrap=True, markup=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def findings_table(findings: Sequence[Finding]) -> str:
    """Every check of one environment; of many one line each and whatever did not pass."""
    subjects = [(key, list(group)) for key, group in groupby(findings, lambda one: (one.environment, one.kwargs))]
    if len(subjects) == 1:
        table = Table("check", "result", "seen", box=None, header_style="bold")
        for one in findings:
            table.add_row(one.check, one.result.value, one.note)
        return _text(table)
    table = Table("environment", "kwargs", "passed", "else", box=None, header_style="bold")
    for (environment, kwargs), group in subjects:
        passed = sum(one.result is Result.PASSED for one in group)
        others = [f"{one.check}: {one.result.value}: {one.note}" for one in group if one.result is not Result.PASSED]
        table.add_row(environment, kwargs, f"{passed} of {len(group)}", "; ".join(others))
    return _text(table)


def findings_document(findings: Sequence[Finding]) -> dict[str, JsonValue]:
    """Counts by result, and every finding."""
    return {
        **{result.name.lower(): sum(one.result is result for one in findings) for result in Result},
        "findings": [{**vars(one), "result": one.result.name.lower()} for one in findings],
    }


def figures_table(figures: Mapping[str, JsonValue]) -> str:
    """One line a figure."""
    table = Table("figure", "", box=None, header_style="bold")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3g}" if isinstance(value, float) and value < 100 else _plain(value))
    return _text(table)


def _plain(value: JsonValue) -> str:
    return f"{value:,.0f}" if isinstance(value, float) else str(value)
