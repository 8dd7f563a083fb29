"""Trackers get every row once, whatever they do with it; TensorBoard's files are read back by TensorBoard itself."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from services.contracts.job import SpecError, parse_spec
from services.contracts.jobfolder import JobFolder
from services.contracts.summary import EvaluationResult
from services.trainer.trackers import feeder
from services.trainer.trackers import tracking as tracking_module
from services.trainer.trackers.feeder import Feeder, SentRows
from services.trainer.trackers.row import Row, Tracker, batch_row, evaluation_row
from services.trainer.trackers.tensorboard import TensorBoard
from services.trainer.trackers.tracking import Tracking, spec_parameters

WAIT_S = 30.0


class FakeTracker:
    """Keeps what it is given; fails at a row of this id."""

    def __init__(self, fails_at: str | None = None) -> None:
        self.rows: list[Row] = []
        self.states: list[str | None] = []
        self._fails_at = fails_at

    def log(self, row: Row) -> None:
        if row.id == self._fails_at:
            raise ConnectionError("the server is gone")
        self.rows.append(row)

    def close(self, state: str | None) -> None:
        self.states.append(state)


class FakeEvents:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    async def warn(self, message: str) -> None:
        self.warnings.append(message)


def record(batch: int) -> dict[str, float]:
    return {"at_unix_s": 100.0 + batch, "batch": batch, "version": batch + 1, "success": batch / 10, "loss": 0.5}


def evaluation(label: str, version: int) -> EvaluationResult:
    return EvaluationResult(
        label=label, version=version, episodes=4, success=0.5, standard_error=0.25, return_mean=1.0, length_mean=3.0,
        invalid_share=0.0, split="test",
    )  # fmt: skip


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    found = EventAccumulator(str(folder))
    found.Reload()
    return [(event.step, round(event.value, 6)) for event in found.Scalars(tag)]


def test_tensorboard_reads_what_was_written_while_it_is_written(tmp_path: Path):
    board = TensorBoard(tmp_path)
    for batch in range(3):
        board.log(batch_row(record(batch)))
    board.log(evaluation_row(evaluation("after", 3)))
    assert scalars(tmp_path, "success") == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert scalars(tmp_path, "evaluation/held_out/success") == [(3, 0.5)]
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    assert [event.wall_time for event in found.Scalars("loss")] == [100.0, 101.0, 102.0]
    assert not {"batch", "version", "at_unix_s"} & set(found.Tags()["scalars"])
    board.close(None)


def test_a_reader_that_watches_forgets_what_was_taken_back(tmp_path: Path):
    board = TensorBoard(tmp_path)
    for batch in range(3):
        board.log(batch_row(record(batch)))
    board.close(None)
    watching = EventAccumulator(str(tmp_path))
    watching.Reload()
    board = TensorBoard(tmp_path)
    for batch in range(2):
        board.log(batch_row(record(batch)))
    watching.Reload()
    assert [event.step for event in watching.Scalars("success")] == [0, 1]
    assert scalars(tmp_path, "success") == [(0, 0.0), (1, 0.1)]
    board.close(None)


async def test_a_job_that_is_taken_up_again_has_each_batch_once(tmp_path: Path):
    folder, fake = JobFolder(tmp_path), FakeTracker()
    openers = {"tensorboard": lambda: TensorBoard(folder.tensorboard), "mlflow": lambda: fake}

    async def take_up(kept: int, until: int) -> None:
        folder.metrics.write_text("".join(json.dumps(record(batch)) + "\n" for batch in range(kept)))
        tracking = Tracking(openers, folder, FakeEvents())  # type: ignore[arg-type]
        tracking.catch_up([evaluation("before", 0)])
        for batch in range(kept, until):
            await tracking.batch(record(batch))
        await tracking.close(None)

    await take_up(0, 4)
    await take_up(2, 6)  # batches 2 and 3 were not durable: they are trained again
    assert scalars(folder.tensorboard, "success") == [(batch, round(batch / 10, 6)) for batch in range(6)]
    assert scalars(folder.tensorboard, "evaluation/held_out/success") == [(0, 0.5)]
    assert [row.id for row in fake.rows] == ["evaluation before 0", *(f"batch {batch}" for batch in range(6))]
    assert fake.states == [None, None]


async def test_a_tracker_that_fails_is_warned_of_once_and_gets_the_rest_when_the_job_is_resumed(tmp_path: Path):
    folder, events, board = JobFolder(tmp_path), FakeEvents(), FakeTracker()
    failing = FakeTracker(fails_at="batch 1")
    tracking = Tracking({"tensorboard": lambda: board, "wandb": lambda: failing}, folder, events)  # type: ignore[arg-type]
    for batch in range(4):
        await tracking.batch(record(batch))
    await tracking.close("SUCCEEDED")
    assert events.warnings == ["tracker wandb is off until the job is resumed: ConnectionError: the server is gone"]
    assert ([row.step for row in failing.rows], [row.step for row in board.rows]) == ([0], [0, 1, 2, 3])
    assert (failing.states, board.states) == ([], ["SUCCEEDED"])
    well = FakeTracker()
    folder.metrics.write_text("".join(json.dumps(record(batch)) + "\n" for batch in range(4)))
    tracking = Tracking({"wandb": lambda: well}, folder, events)  # type: ignore[arg-type]
    tracking.catch_up([])
    await tracking.close("SUCCEEDED")
    assert [row.step for row in well.rows] == [1, 2, 3]


class FullDisk(TensorBoard):
    """Its disk has no room for this row, which is half there, while `full`."""

    full = True

    def log(self, row: Row) -> None:
        super().log(row)
        if type(self).full and row.id == "batch 1":
            raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_disk_without_room_costs_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeder, "FIRST_PAUSE_S", 0.01)
    folder, events = JobFolder(tmp_path), FakeEvents()
    tracking = Tracking({"tensorboard": lambda: FullDisk(folder.tensorboard)}, folder, events)  # type: ignore[arg-type]
    for batch in range(3):
        await tracking.batch(record(batch))
    while not events.warnings:
        await tracking.evaluation(evaluation("during", 3))
    assert events.warnings == [
        "tracker tensorboard waits for room on the disk and gets all rows then: [Errno 28] No space left on device"
    ]
    FullDisk.full = False
    await tracking.batch(record(3))
    await tracking.close("SUCCEEDED")
    assert scalars(folder.tensorboard, "success") == [(batch, batch / 10) for batch in range(4)]
    assert len(events.warnings) == 1


async def test_rows_that_found_no_room_to_the_end_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tracking_module, "CLOSE_S", 0.3)
    folder, events, full = JobFolder(tmp_path), FakeEvents(), threading.Event()

    def no_room() -> Tracker:
        if not full.is_set():
            raise OSError(errno.EROFS, "Read-only file system")
        return FakeTracker()

    tracking = Tracking({"tensorboard": no_room}, folder, events)  # type: ignore[arg-type]
    await tracking.batch(record(0))
    await tracking.close("SUCCEEDED")
    full.set()
    assert events.warnings[-1] == (
        "tracker tensorboard is off until the job is resumed: it did not take the last rows within 0.3 s, "
        "the last refusal: [Errno 30] Read-only file system"
    )


def test_training_does_not_wait_for_a_tracker_that_hangs(tmp_path: Path):
    let_go = threading.Event()

    def hanging() -> Tracker:
        assert let_go.wait(WAIT_S)
        return FakeTracker()

    hung = Feeder("mlflow", hanging, SentRows(None))
    for batch in range(100):
        hung.add(batch_row(record(batch)))
    hung.close("FAILED")
    hung.join(0.0)
    assert hung.failure == "it did not take the last rows within 0 s"
    let_go.set()


def test_a_tracker_that_cannot_be_opened_says_why():
    def missing() -> Tracker:
        raise ModuleNotFoundError("No module named 'mlflow'")

    broken = Feeder("mlflow", missing, SentRows(None))
    broken.close(None)
    broken.join(WAIT_S)
    assert broken.failure == "ModuleNotFoundError: No module named 'mlflow'"


def test_a_half_written_note_counts_as_none(tmp_path: Path):
    path = tmp_path / "mlflow.sent"
    path.write_text("batch 0\nbatch 1\nbat")
    sent = SentRows(path)
    assert [batch_row(record(batch)) in sent for batch in range(3)] == [True, True, False]
    sent.note(batch_row(record(2)))
    assert path.read_text() == "batch 0\nbatch 1\nbatch 2\n"


@pytest.mark.parametrize("given", [["mlflow", "wandb"], "mlflow, wandb"])
def test_trackers_are_named_as_a_list_or_with_commas(given: Any):
    spec = parse_spec({"model": {"model": "/m"}, "tracking": {"trackers": given}})
    assert spec.tracking.trackers == ["mlflow", "wandb"]
    assert spec_parameters(spec)["gamma"] == 0.95
    assert "name" not in spec_parameters(spec)


def test_an_unknown_tracker_is_refused():
    with pytest.raises(SpecError, match=r"tracking.trackers.0: want one of mlflow, wandb, trackio, got"):
        parse_spec({"model": {"scratch": {}}, "tracking": {"trackers": "tensorbord"}})
