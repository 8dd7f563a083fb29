"""Every service names ids alike in its log lines, and as in traces."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SERVICES = Path(__file__).parents[3] / "services"
OTHERS = {"job_id", "group_id", "episode_id", "step_index", "batch_index", "batch_number", "version", "policy"}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "bind"}


def keywords() -> Iterator[tuple[str, str]]:
    """Place and name of each field that a log line is given."""
    for path in SERVICES.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            if call.func.attr in LEVELS and ast.unparse(call.func.value).rpartition(".")[2] in ("log", "_log"):
                for word in call.keywords:
                    yield f"{path.relative_to(SERVICES)}:{call.lineno}", word.arg or ""


def test_ids_have_one_name_in_log_lines() -> None:
    found = list(keywords())
    assert sum(name == "job" for _, name in found) > 10
    assert [one for one in found if one[1] in OTHERS] == []
