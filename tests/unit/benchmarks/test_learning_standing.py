"""The words of `make demo` about its own run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.learning import standing as program
from benchmarks.learning.standing import standing

RECORDED = {
    "machine": "an abacus",
    "runs": [{"success": success, "panel": "p1"} for success in (0.95, 0.93, 0.99)],
}


def summary(success: float, panel: str = "p1", label: str = "after") -> dict[str, Any]:
    before = {"label": "before", "success": 0.03, "standard_error": 0.01, "panel": panel}
    return {"evaluations": [before, {**before, "label": label, "success": success}]}


@pytest.mark.parametrize(
    ("success", "where"),
    [(0.96, "above 2 of them"), (0.99, "above 2 of them"), (1.0, "above 3 of them"), (0.93, "above 0 of them"),
     (0.929, "below all of them: `gigpo diagnose`")],
)  # fmt: skip
def test_a_run_is_set_beside_the_recorded_ones(success: float, where: str) -> None:
    said = standing(summary(success), RECORDED)
    assert f"{success:.3f} ± 0.010; 3 recorded seeds reached 0.930 to 0.990 (an abacus)" in said
    assert where in said


def test_other_tasks_and_an_early_end_are_not_compared() -> None:
    assert "other tasks" in standing(summary(0.96, panel="p2"), RECORDED)
    assert "before its last evaluation" in standing(summary(0.96, label="task_hidden"), RECORDED)


def test_the_newest_of_the_folders_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, (name, success) in enumerate({"demo.2": 0.97, "demo": 0.94}.items()):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(summary(success)))
        os.utime(tmp_path / name / "summary.json", (1e9 - age, 1e9 - age))
    (tmp_path / "recorded.json").write_text(json.dumps(RECORDED))
    folders = [str(tmp_path / name) for name in ("demo", "demo.2", "demo.3")]
    monkeypatch.setattr(sys, "argv", ["standing", *folders, "--recorded", str(tmp_path / "recorded.json")])
    program.main()
    assert capsys.readouterr().out.startswith("held-out success 0.970")
    monkeypatch.setattr(sys, "argv", ["standing", str(tmp_path / "none")])
    with pytest.raises(SystemExit):
        program.main()
    assert "want a folder with summary.json" in capsys.readouterr().err


def test_ten_seeds_of_the_default_job_are_recorded_on_one_panel() -> None:
    runs = json.loads(program.RECORDED.read_text())["runs"]
    job = yaml.safe_load(Path("examples/default.yaml").read_text())
    assert [run["seed"] for run in runs] == list(range(10))
    assert len({run["panel"] for run in runs}) == 1
    assert {len(run["curve"]) for run in runs} == {job["training"]["total_batches"]}
    assert min(run["success"] for run in runs) >= 0.9
