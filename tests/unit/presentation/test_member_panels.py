"""Panels of a job's members."""

from __future__ import annotations

from services.api.dashboard.curves import point
from services.contracts.summary import EvaluationResult, PanelResult
from services.presentation.evaluations import named_results
from services.presentation.panels import PANELS, members_in, panels_of
from services.trainer.trackers.row import evaluation_row

FIGURES = {
    "episodes": 4, "success": 0.5, "standard_error": 0.25, "return_mean": 1.0, "length_mean": 2.0, "invalid_share": 0.0,
    "split": "test",
}  # fmt: skip
RECORD = {"batch": 0, "success": 0.5, "success/far": 0.25, "return/far": 1.0, "episodes/far": 8, "episodes/near": 4}


def test_a_mixture_has_a_panel_with_a_line_for_each_member():
    assert panels_of([]) == PANELS
    found = {panel.key: panel for panel in panels_of(["far", "near"])}
    assert found["member_success"].series == (("success/far", "far"), ("success/near", "near"))
    assert found["member_return"].series[0] == ("return/far", "far")
    assert len(found) == len(PANELS) + 3
    assert members_in(RECORD) == ["far", "near"]
    assert point(RECORD)["success/far"] == 0.25


def test_a_members_result_stands_below_the_whole():
    result = EvaluationResult(label="after", version=3, members={"far": PanelResult(**FIGURES)}, **FIGURES)
    assert [name for name, _ in named_results(result)] == ["after training", "· far"]
    figures = evaluation_row(result).figures
    assert (figures["evaluation/held_out/success"], figures["evaluation/held_out/far/success"]) == (0.5, 0.5)
