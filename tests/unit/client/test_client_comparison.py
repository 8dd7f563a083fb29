"""Which cells of a comparison are done, by what lies in their folders."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gigpo.client.budget import Result
from gigpo.client.compare import Cell, comparison_rows, read_result
from gigpo.client.comparison_report import header, table_rows

CELL = Cell("gigpo", 3, {"training": {"seed": 3}})
FILES = {
    "cell.json": json.dumps({"sha": CELL.sha}),
    "summary.json": json.dumps({"state": "SUCCEEDED", "batches": 2}),
    "metrics.jsonl": '{"batch": 0}\n{"batch": 1}\n',
}


def written(folder: Path, **changes: str | None) -> Path:
    """The folder of a finished cell; a file whose text is None is not there."""
    for name, text in {**FILES, **changes}.items():
        if text is not None:
            (folder / name).write_text(text)
    return folder


def test_the_result_of_a_cell_that_succeeded_is_read(tmp_path: Path) -> None:
    result = read_result(written(tmp_path), CELL)
    assert result is not None
    assert (result.estimator, result.seed, result.summary["batches"]) == ("gigpo", 3, 2)
    assert result.metrics == [{"batch": 0}, {"batch": 1}]


def test_a_cell_of_another_spec_is_not_done(tmp_path: Path) -> None:
    assert read_result(written(tmp_path), replace(CELL, spec={"training": {"seed": 4}})) is None


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "RUNNING"])
def test_a_cell_whose_job_did_not_succeed_is_not_done(tmp_path: Path, state: str) -> None:
    changes: dict[str, Any] = {"summary.json": json.dumps({"state": state})}
    assert read_result(written(tmp_path, **changes), CELL) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cell.json", None),
        ("cell.json", "{"),
        ("cell.json", "{}"),
        ("summary.json", None),
        ("summary.json", "{}"),
        ("metrics.jsonl", None),
        ("metrics.jsonl", '{"batch": 0}\n{"ba'),
    ],
)
def test_a_folder_that_lacks_a_part_is_not_done(tmp_path: Path, name: str, text: str | None) -> None:
    assert read_result(written(tmp_path, **{name: text}), CELL) is None


def test_the_members_of_mixtures_are_compared_each_by_its_own_panel() -> None:
    def after(near: float, far: float) -> dict[str, Any]:
        panel = {"episodes": 8, "standard_error": 0.1, "return_mean": 0.0, "length_mean": 2.0, "invalid_share": 0.0}
        panel |= {"split": "test", "success": 0.0}
        members = {"near": {**panel, "success": near}, "far": {**panel, "success": far}}
        return {**panel, "label": "after", "version": 2, "success": (near + far) / 2, "members": members}

    results = [
        Result("gigpo", seed, {"evaluations": [after(near, 0.25)]}, [])
        for seed, near in enumerate((0.5, 1.0))
    ]  # fmt: skip
    (row,) = comparison_rows(results, ["gigpo"], 0.8)
    assert {name: one.mean for name, one in row.members.items()} == {"near": 0.75, "far": 0.25}
    (whole, near, far) = table_rows([row])
    assert [line[0] for line in (whole, near, far)] == ["gigpo", "· near", "· far"]
    assert "0.25" in far[3]
    assert {len(line) for line in (whole, near, far)} == {len(header(0.8))}
