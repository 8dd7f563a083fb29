"""How far warm start and evaluation are, as the job's owner is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.contracts.events import Phase
from services.contracts.job import WarmStart
from services.trainer.phases import phase_progress
from services.trainer.phases.evaluation import evaluate
from services.trainer.phases.phase_progress import PhaseProgress
from services.trainer.phases.warmstart import warm_start
from tests.unit.trainer.trainer_loop import Answer, FakeEvents, Loop, fake_loop


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    monkeypatch.setattr(phase_progress, "LEAST_S", 0.0)
    return fake_loop(tmp_path)


def told(loop: Loop) -> list[tuple[object, ...]]:
    events: FakeEvents = loop.session.events  # type: ignore[assignment]
    keys = ("doing", "label", "done", "total", "unit")
    return [(one.phase, *(one.detail[key] for key in keys if key in one.detail)) for one in events.phases]


async def test_a_warm_start_tells_how_far_playing_and_learning_are(loop: Loop) -> None:
    await warm_start(loop.session, WarmStart(warmstart_rows=4, warmstart_steps=3))
    assert told(loop)[:4] == [
        ("warmstart", "playing", 0, 4, "steps played"),
        ("warmstart", "playing", 4, 4, "steps played"),
        ("warmstart", "learning", 0, 3, "optimizer steps"),
        ("warmstart", "learning", 1, 3, "optimizer steps"),
    ]
    assert ("warmstart", "learning", 3, 3, "optimizer steps") in told(loop)


async def test_an_evaluation_tells_how_many_episodes_are_there(loop: Loop) -> None:
    loop.script.answers["eval", 4] = Answer(cause="the world is gone")
    await evaluate(loop.session, "before")
    assert told(loop) == [("evaluation", "before", 0, 10, "episodes"), ("evaluation", "before", 10, 10, "episodes")]


async def test_progress_is_told_seldom_at_the_beginning_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    events = FakeEvents()
    progress = PhaseProgress(events, Phase.EVALUATION, 1_000, "episodes")
    for done in range(1_001):
        await progress.reached(done)
    assert [one.detail["done"] for one in events.phases] == [0, 1_000]

    monkeypatch.setattr(phase_progress, "LEAST_S", 0.0)
    events.phases.clear()
    progress = PhaseProgress(events, Phase.EVALUATION, 1_000, "episodes")
    for done in range(1_001):
        await progress.reached(done)
    assert [one.detail["done"] for one in events.phases] == list(range(0, 1_001, 10))


async def test_more_than_the_whole_is_the_whole() -> None:
    events = FakeEvents()
    progress = PhaseProgress(events, Phase.WARMSTART, 10, "steps played")
    await progress.reached(12)
    await progress.reached(15)
    assert [one.detail["done"] for one in events.phases] == [10]
