"""A job's life as bars and as lines, from events at times that were chosen by hand."""

from __future__ import annotations

from typing import Any

import pytest

from services.api.dashboard.log_lines import SHOWN, kinds_of, log_lines
from services.api.dashboard.timeline import MOST_MARKS, WIDTH, timeline
from services.api.sql.tables import EventRow


def event(at: float, kind: str, **data: Any) -> EventRow:
    return EventRow(job_id="j1", ms=int(at * 1_000), seq=0, kind=kind, at_unix_s=at, data=data)


def phase(at: float, name: str, **detail: Any) -> EventRow:
    return event(at, "phase", phase=name, **detail)


LIFE = [
    event(0.0, "state", state="RUNNING"),
    phase(0.0, "warmstart", doing="playing", done=0, total=9, unit="steps"),
    phase(10.0, "warmstart", doing="learning", done=0, total=9, unit="steps"),
    phase(30.0, "training", batch=0),
    event(40.0, "checkpoint", batch=1, name="b000001"),
    event(45.0, "warning", service="rollout", message="a group was lost"),
    event(50.0, "state", state="PAUSED"),
    event(70.0, "state", state="RUNNING"),
    phase(70.0, "training", batch=1),
    event(100.0, "state", state="SUCCEEDED"),
]


def test_phases_are_bars_and_a_pause_is_a_gap() -> None:
    found = timeline(LIFE, 100.0)
    lanes = {lane.name: lane for lane in found.lanes}
    assert list(lanes) == ["warmstart", "training"]
    assert [(bar.x, bar.width) for bar in lanes["warmstart"].bars] == [(0.0, 300.0)]
    assert [(bar.x, bar.width) for bar in lanes["training"].bars] == [(300.0, 200.0), (700.0, 300.0)]
    assert (lanes["training"].times, lanes["training"].total_s, lanes["training"].share) == (2, 50.0, 0.5)
    assert [(mark.x, mark.words) for mark in found.marks["checkpoints"]] == [(400.0, "b000001")]
    assert [mark.words for mark in found.marks["warnings"]] == ["rollout: a group was lost"]
    assert [(tick.x, tick.words) for tick in found.ticks] == [(0.0, "0"), (150.0, "15 s"), (300.0, "30 s"),
        (450.0, "45 s"), (600.0, "1 min"), (750.0, "1 min 15 s"), (900.0, "1 min 30 s")]  # fmt: skip


def test_a_running_phase_goes_on_until_now() -> None:
    found = timeline([phase(0.0, "training", batch=0)], 60.0)
    assert [(bar.x, bar.width) for bar in found.lanes[0].bars] == [(0.0, pytest.approx(WIDTH))]


def test_a_long_job_has_no_more_bars_than_pixels() -> None:
    events = [phase(2.0 * n + k, name) for n in range(5_000) for k, name in enumerate(("training", "publish"))]
    events += [event(10_000.0, "warning", service="s", message="m") for _ in range(5_000)]
    found = timeline(events, 10_000.0)
    assert all(len(lane.bars) <= WIDTH for lane in found.lanes)
    assert [(lane.times, lane.total_s) for lane in found.lanes] == [(5_000, 5_000.0), (5_000, 5_000.0)]
    assert len(found.marks["warnings"]) <= MOST_MARKS


def test_nothing_and_a_single_moment_are_drawn_too() -> None:
    assert timeline([], 5.0).lanes == ()
    assert timeline([event(5.0, "state", state="QUEUED")], 5.0).length_s == 0.0


def test_lines_say_what_happened_and_progress_is_told_once() -> None:
    newest_first = [
        event(9.0, "state", state="FAILED", error="no memory"),
        event(8.0, "summary", ledger={"opened": 10, "consumed": 8, "dropped": {"infra": 1, "stale": 1}}),
        event(7.0, "metrics", batch=3, success=0.5, failed_attempts=2),
        event(6.0, "warning", service="rollout", message="slow", count=4),
        phase(5.0, "evaluation", label="before", done=8, total=8, unit="episodes"),
        phase(4.0, "evaluation", label="before", done=0, total=8, unit="episodes"),
        event(3.0, "mystery"),
    ]
    lines = log_lines(newest_first)
    assert [(line.kind, line.who, line.words) for line in lines] == [
        ("state", "trainer", "Failed: no memory"),
        ("summary", "trainer", "groups: opened 10, consumed 8, dropped 2"),
        ("trouble", "trainer", "batch 3: success 50.0 %; 2 attempts failed and were played again"),
        ("warning", "rollout", "slow (4 times so far)"),
        ("phase", "trainer", "evaluation before 8/8 episodes"),
        ("mystery", "?", "an event that this version does not know: mystery"),
    ]


def test_batches_with_retried_groups_can_be_shown_alone() -> None:
    batches = [event(2.0, "metrics", batch=1, failed_attempts=1), event(1.0, "metrics", batch=0, failed_attempts=0)]
    assert [line.words[:7] for line in log_lines(batches, "trouble")] == ["batch 1"]
    assert len(log_lines(batches, "metrics")) == 2


@pytest.mark.parametrize("chosen", SHOWN)
def test_every_choice_reads_some_kinds(chosen: str) -> None:
    assert kinds_of(chosen)
    assert ("metrics" in kinds_of(chosen)) == (chosen in ("metrics", "trouble"))
