"""Watching a job: which lines are printed, on a terminal and elsewhere."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest
from rich.console import Console

from gigpo.client import GigpoClient, Job
from gigpo.client.follow import (
    env_steps_per_s,
    evaluation_line,
    event_line,
    figures,
    follow,
    waiting_line,
    warning_line,
)
from gigpo.client.models import Event
from services.contracts.events import PhaseBegan, Warned
from services.contracts.summary import EvaluationResult
from services.presentation.pace import phase_words
from tests.unit.client.both_clients import AT_ONCE
from tests.unit.client.fake_api import FakeApi, evaluation, job


def event(kind: str, **data: Any) -> Event:
    return Event(id="1-0", kind=kind, at_unix_s=0.0, data=data)


def watched(fake_api: FakeApi, *, terminal: bool, state: str = "RUNNING") -> tuple[Job, str]:
    """The job as it ended, and what was printed meanwhile."""
    fake_api.has(job(state="SUCCEEDED"))
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=200, markup=False, highlight=False)
    with GigpoClient("http://api", transport=httpx.MockTransport(fake_api), retries=AT_ONCE) as client:
        ended = follow(client, Job.model_validate(job(state=state)), console)
    return ended, written.getvalue()


def test_elsewhere_a_line_is_printed_once_however_often_it_is_said(fake_api: FakeApi) -> None:
    fake_api.says(
        "j1",
        ("state", {"state": "RUNNING"}),
        ("state", {"state": "RUNNING"}),
        ("summary", {}),
        ("metrics", {"batch": 0}),
        ("state", {"state": "RUNNING"}),
        ("warning", {"message": "slow [disk]"}),
    )
    ended, written = watched(fake_api, terminal=False)
    assert ended.ended
    assert [line.rstrip() for line in written.splitlines()] == [
        "state RUNNING",
        "batch 1/3",
        "state RUNNING",
        "warning: slow [disk]",
    ]


def learning(done: int) -> tuple[str, dict[str, Any]]:
    return "phase", {"phase": "warmstart", "doing": "learning", "done": done, "total": 100, "unit": "optimizer steps"}


def test_elsewhere_the_warm_start_is_told_in_tenths_with_the_time_that_is_left(fake_api: FakeApi) -> None:
    fake_api.says("j1", *(learning(done) for done in range(0, 101, 5)), ("phase", {"phase": "training", "batch": 0}))
    _, written = watched(fake_api, terminal=False)
    lines = written.splitlines()
    assert len(lines) == 12
    assert lines[0] == "phase warmstart learning 0/100 optimizer steps"
    assert lines[5].startswith("phase warmstart learning 50/100 optimizer steps, ")
    assert lines[5].endswith(" left")
    assert lines[-1] == "phase training 0/3 batches"


def test_a_terminal_shows_how_far_the_warm_start_is(fake_api: FakeApi) -> None:
    fake_api.says("j1", learning(0), learning(40))
    _, written = watched(fake_api, terminal=True)
    for words in ("warmstart learning", "40/100", " left"):
        assert words in written, words


def test_a_job_that_has_ended_is_not_watched(fake_api: FakeApi) -> None:
    ended, written = watched(fake_api, terminal=False, state="FAILED")
    assert (ended.state, written, fake_api.requests) == ("FAILED", "", [])


def test_a_terminal_shows_a_bar_and_keeps_what_matters_above_it(fake_api: FakeApi) -> None:
    fake_api.says(
        "j1",
        ("phase", {"phase": "training"}),
        ("metrics", {"batch": 1, "success": 0.5}),
        ("evaluation", evaluation("after", 0.75)),
        ("warning", {"text": "slow"}),
        ("state", {"state": "FAILED", "error": "no memory"}),
    )
    _, written = watched(fake_api, terminal=True)
    for words in (
        "2/3",
        "success 0.50",
        "evaluation after: success 0.750 ± 0.037 on 64 episodes",
        "warning: slow",
        "state FAILED: no memory",
        "failed",
    ):
        assert words in written, words


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (event("phase", phase="evaluation", label="before"), "phase evaluation before"),
        (
            event("phase", phase="warmstart", doing="learning", done=180, total=500, unit="steps"),
            "phase warmstart learning 180/500 steps",
        ),
        (event("phase", phase="training", label=None), "phase training"),
        (event("phase", phase="waiting", reason="waits for a trainer", before=3), "phase waits for a trainer"),
        (event("phase", phase="waiting"), "phase waiting"),
        (event("checkpoint", name="b000002"), "checkpoint b000002"),
        (event("checkpoint"), "checkpoint"),
        (event("state", state="PAUSED", error=None), "state PAUSED"),
        (event("warning", text="older words"), "warning: older words"),
        (event("metrics"), "batch 1/9  "),
        (event("evaluation", label="after", success=None), None),
        (event("something_new", a=1), None),
    ],
)
def test_every_kind_of_event_has_its_line(told: Event, line: str | None) -> None:
    found = event_line(told, 9)
    assert found == line or (line is not None and found is not None and found.startswith(line))


def test_a_warning_says_how_often_it_happened() -> None:
    assert warning_line(Warned(service="env", message="a worker died", count=1)) == "warning: a worker died"
    many = Warned(service="env", message="a worker died", count=7)
    assert warning_line(many) == "warning: a worker died (7 times so far)"


def test_figures_are_left_out_where_they_are_not_numbers() -> None:
    metrics: dict[str, Any] = {"success": "high", "return_mean": 0.125, "step_advantage_share": 0.25, "tokens_per_s": 0}
    assert figures(metrics) == "return 0.12  A^S 25%  tokens/s 0"


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"env_steps": 300, "wait_s": 1, "train_s": 1, "publish_s": 0}, 150.0),
        ({"env_steps": 300, "wait_s": 0, "train_s": 0, "publish_s": 0}, None),
        ({"env_steps": 300, "wait_s": 1, "train_s": None, "publish_s": 1}, None),
        ({"env_steps": None, "wait_s": 1, "train_s": 1, "publish_s": 1}, None),
        ({}, None),
    ],
)
def test_steps_per_second_need_every_part_of_a_batch(metrics: dict[str, Any], expected: float | None) -> None:
    assert env_steps_per_s(metrics) == expected


def test_a_phase_and_an_evaluation_are_told_in_words() -> None:
    assert phase_words(PhaseBegan(phase="evaluation", detail={"label": "during"})) == "evaluation during"
    assert phase_words(PhaseBegan(phase="training")) == "training"
    assert (
        evaluation_line(EvaluationResult.model_validate(evaluation("during", 0.25)))
        == "evaluation during: success 0.250 ± 0.037 on 64 episodes"
    )


def test_a_job_that_waits_says_what_for(fake_api: FakeApi) -> None:
    queued = job(id="j9", state="QUEUED", jobs_before=2)
    mine = Job.model_validate(queued)
    runs = job(id="j1", name="big", state="RUNNING", total_batches=60, metrics={"batch": 11})
    with GigpoClient("http://api", transport=httpx.MockTransport(fake_api), retries=AT_ONCE) as client:
        fake_api.has(runs, queued)
        assert waiting_line(client, mine) == (
            "the job is queued; running: big (12/60 batches); waiting before it: 2; `gigpo status` shows all"
        )
        fake_api.has({**queued, "jobs_before": 0})
        assert waiting_line(client, mine) is None
        assert waiting_line(client, mine.model_copy(update={"state": "RUNNING"})) is None
        fake_api.answers["GET /v1/jobs"] = httpx.Response(403, json={"detail": "no"})
        assert waiting_line(client, mine) is None
