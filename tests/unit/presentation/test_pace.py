"""How far a job is and how long it will take, worked out by hand."""

from __future__ import annotations

from services.presentation.pace import RECENT, Pace, Progress, duration, progress_words


def test_a_phase_is_drawn_out_from_its_beginning() -> None:
    pace = Pace(60)
    assert pace.progress is None
    pace.hear("phase", 100.0, {"phase": "warmstart", "doing": "playing", "done": 0, "total": 100, "unit": "steps"})
    assert pace.progress == Progress("warmstart playing", 0, 100, "steps", None)
    pace.hear("phase", 110.0, {"phase": "warmstart", "doing": "playing", "done": 25, "total": 100, "unit": "steps"})
    assert pace.progress == Progress("warmstart playing", 25, 100, "steps", 30.0)
    pace.hear("phase", 140.0, {"phase": "warmstart", "doing": "learning", "done": 0, "total": 5, "unit": "steps"})
    assert pace.progress == Progress("warmstart learning", 0, 5, "steps", None)
    pace.hear("phase", 145.0, {"phase": "warmstart", "doing": "learning", "done": 5, "total": 5, "unit": "steps"})
    assert pace.progress == Progress("warmstart learning", 5, 5, "steps", None)
    pace.hear("phase", 150.0, {"phase": "publish", "version": 0})
    assert pace.progress is None


def test_training_goes_on_at_the_pace_of_its_newest_batches() -> None:
    pace = Pace(100)
    pace.hear("phase", 0.0, {"phase": "training", "batch": 0})
    assert pace.progress == Progress("training", 0, 100, "batches", None)
    pace.hear("metrics", 10.0, {"batch": 0})
    assert pace.progress == Progress("training", 1, 100, "batches", 990.0)
    for batch in range(1, 1 + RECENT + 1):
        pace.hear("metrics", 10.0 + 2.0 * batch, {"batch": batch})
    assert pace.progress == Progress("training", 22, 100, "batches", 156.0)


def test_an_evaluation_in_between_has_a_progress_of_its_own() -> None:
    pace = Pace(4)
    for batch in range(2):
        pace.hear("metrics", 5.0 * batch, {"batch": batch})
    pace.hear("phase", 11.0, {"phase": "evaluation", "label": "during", "done": 3, "total": 8, "unit": "episodes"})
    assert pace.progress == Progress("evaluation during", 3, 8, "episodes", None)
    pace.hear("phase", 20.0, {"phase": "training", "batch": 2})
    assert pace.progress == Progress("training", 2, 4, "batches", 10.0)


def test_a_pause_is_no_part_of_the_pace() -> None:
    pace = Pace(10)
    for batch in range(2):
        pace.hear("metrics", 5.0 * batch, {"batch": batch})
    pace.hear("state", 6.0, {"state": "PAUSED"})
    pace.hear("phase", 5_000.0, {"phase": "training", "batch": 2})
    pace.hear("metrics", 5_004.0, {"batch": 2})
    assert pace.progress == Progress("training", 3, 10, "batches", 28.0)


def test_what_is_no_progress_is_none() -> None:
    pace = Pace(10)
    for data in ({"phase": "evaluation", "label": "before"}, {"phase": "warmstart", "done": "x", "total": None}, {}):
        pace.hear("phase", 1.0, data)
        assert pace.progress is None


def test_progress_in_words() -> None:
    assert progress_words(Progress("warmstart learning", 180, 500, "steps", 35.0)) == (
        "warmstart learning 180/500 steps, 35 s left"
    )
    assert progress_words(Progress("training", 0, 1_000, "batches", None)) == "training 0/1,000 batches"
    assert [duration(4.2), duration(59), duration(200), duration(1_613)] == ["4.2 s", "59 s", "3 min 20 s", "26 min"]
    assert [duration(300), duration(3_600), duration(3_660)] == ["5 min", "1 h", "1 h 1 min"]


def test_a_job_that_trains_nothing_has_no_progress_of_its_training() -> None:
    pace = Pace(0)
    pace.hear("phase", 0.0, {"phase": "training", "batch": 0})
    assert pace.progress is None
