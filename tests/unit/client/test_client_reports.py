"""The output for people: the report, curves, the live line."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from gigpo.client.curves import curves_png, panels_of
from gigpo.client.follow import event_line, figures
from gigpo.client.models import Event, Job
from gigpo.client.report import number_text, report_html, summary_rows
from gigpo.client.tables import evaluations_table
from services.contracts.states import JobState
from services.contracts.summary import EvaluationResult, JobSummary, LedgerSummary
from services.presentation.evaluations import EVALUATION_LABELS
from tests.unit.client.both_clients import job

JOB = Job.model_validate(job(name="demo", state="SUCCEEDED", spec={"model": {"scratch": {}}}))
EVALUATION = EvaluationResult(
    label="after",
    version=60,
    episodes=256,
    success=0.9,
    standard_error=0.019,
    return_mean=0.88,
    length_mean=7.5,
    invalid_share=0.004,
    split="test",
)
SUMMARY = JobSummary(
    job_id="j1",
    name="demo",
    state="SUCCEEDED",
    success_before=0.07,
    success_after=0.9,
    evaluations=[EVALUATION],
    env_steps=123456,
    trained_steps=1,
    trained_tokens=2,
    sampled_tokens=2,
    optimizer_steps=3,
    batches=4,
    wall_s=12.5,
    engine="vllm",
    advantage_estimator="gigpo",
    ledger=LedgerSummary(opened=10, consumed=9, dropped={"stale": 1, "infra": 0}, live=0, retried=0),
    mismatch_kl_mean=0.001,
    checkpoint="checkpoint",
    seed=0,
)
METRICS = [{"batch": batch, "success": batch / 10, "entropy": 1.0, "note": "text"} for batch in range(5)]


def test_the_report_is_one_file_with_summary_evaluations_curves_and_spec() -> None:
    html = report_html(JOB, SUMMARY, [EVALUATION], curves_png(METRICS, [EVALUATION]))
    for words in ("Job demo", "SUCCEEDED", "123,456", "0.900 ± 0.019", "after training", "stale 1", "scratch: {}"):
        assert words in html, words
    assert "data:image/png;base64," in html
    assert re.findall(r"(?:src|href)=\"(?!data:)", html) == []


def test_every_evaluation_is_called_by_what_was_played() -> None:
    evaluations = [EVALUATION.model_copy(update={"label": label}) for label in (*EVALUATION_LABELS, "new_kind")]
    table, html = evaluations_table(evaluations), report_html(JOB, None, evaluations, None)
    assert list(table.columns[0].cells) == [*EVALUATION_LABELS.values(), "new_kind"]
    for words in (*EVALUATION_LABELS.values(), "new_kind"):
        assert escape(words) in html
    assert EVALUATION_LABELS["task_hidden"] == "the same policy, task hidden"


def test_a_report_of_a_failed_job_says_why_and_lets_no_markup_in() -> None:
    failed = JOB.model_copy(update={"name": "<b>", "state": JobState.FAILED, "error": "<script>"})
    html = report_html(failed, None, [], None)
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "without a summary" in html


def test_the_ledger_is_shown_flat_and_zero_drops_are_left_out() -> None:
    rows = dict(summary_rows(SUMMARY))
    assert rows["ledger: dropped"] == "stale 1"
    assert rows["ledger: live"] == "0"
    assert rows["stale_max"] == "–"
    assert "evaluations" not in rows


def test_numbers_are_short() -> None:
    assert [number_text(value) for value in (None, 1234567, 0.123456, "x", True, [1])] == [
        "–",
        "1,234,567",
        "0.1235",
        "x",
        "true",
        "[1]",
    ]


def test_panels_are_drawn_for_what_is_there() -> None:
    shown = [(panel.title, panel.series) for panel in panels_of(METRICS)]
    assert shown == [("Success", (("success", "training"),)), ("Entropy", (("entropy", "entropy"),))]
    assert curves_png([], []) is None


def test_the_live_line_shows_what_it_knows() -> None:
    assert figures({"success": 0.5, "tokens_per_s": 1234.5, "other": 1}) == "success 0.50  tokens/s 1,234"
    assert figures({"success": None}) == ""


def test_steps_per_second_are_worked_out_from_the_batch() -> None:
    metrics = {"env_steps": 300, "wait_s": 1.0, "train_s": 1.5, "publish_s": 0.5}
    assert figures(metrics) == "steps/s 100"
    assert figures({"env_steps": 300, "wait_s": 1.0}) == ""


def event(kind: str, **data: Any) -> Event:
    return Event(id="1-0", kind=kind, at_unix_s=0.0, data=data)


def test_events_are_told_as_plain_lines() -> None:
    assert event_line(event("state", state="FAILED", error="no memory"), 60) == "state FAILED: no memory"
    assert event_line(event("metrics", batch=4, success=0.5), 60) == "batch 5/60  success 0.50"
    assert (
        event_line(event("evaluation", **EVALUATION.model_dump()), 60)
        == "evaluation after: success 0.900 ± 0.019 on 256 episodes"
    )
    assert event_line(event("warning", message="slow"), 60) == "warning: slow"
    assert event_line(event("summary"), 60) is None
