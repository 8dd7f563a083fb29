"""A checkpoint counts only when every file of it is the one that was written."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from services.trainer.job.errors import CheckpointBroken
from services.trainer.storage.checkpoint import newest_complete, replayable_from, set_broken_aside, verified_progress
from services.trainer.storage.progress import Progress, Totals, decode_progress, encode_progress


def write_checkpoint(folder: Path, batch: int) -> Path:
    """What `save_checkpoint` leaves, with a stand-in for the learner's state."""
    checkpoint = folder / f"b{batch:06d}"
    (checkpoint / "trainer").mkdir(parents=True)
    files = {
        "config.json": b"{}",
        "trainer/weights.safetensors": bytes([batch]) * 64,
        "trainer/progress.json": encode_progress(Progress(batch=batch)),
    }
    for name, content in files.items():
        (checkpoint / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    (checkpoint / "hashes.json").write_text(json.dumps(hashes))
    return checkpoint


def test_progress_survives_its_encoding():
    progress = Progress(
        batch=3, warmstarted=True, next_cursor=14, lost=2, waiting=[12, 13], phases_s={"training": 1.5},
        waits_s={"trainer": 0.5},
        totals=Totals(env_steps=9, zero_advantage_tokens=2),
    )  # fmt: skip
    assert decode_progress(encode_progress(progress)) == progress


def test_two_new_positions_share_nothing():
    first, second = Progress(), Progress()
    first.spend("training", 1.0)
    first.wait(trainer=1.0)
    first.totals.env_steps += 1
    first.waiting.append(1)
    assert second == Progress()


def test_without_checkpoints_a_job_begins_at_the_beginning(tmp_path: Path):
    assert newest_complete(tmp_path / "checkpoints") == (None, Progress(), {})


def test_the_newest_checkpoint_is_taken(tmp_path: Path):
    write_checkpoint(tmp_path, 2)
    newest = write_checkpoint(tmp_path, 10)
    folder, progress, skipped = newest_complete(tmp_path)
    assert (folder, progress.batch, skipped) == (newest, 10, {})


@pytest.mark.parametrize("harm", ["missing file", "changed byte", "no hashes", "cut hashes", "no progress"])
def test_a_half_written_checkpoint_is_skipped_and_named(tmp_path: Path, harm: str):
    good, broken = write_checkpoint(tmp_path, 2), write_checkpoint(tmp_path, 4)
    if harm == "missing file":
        (broken / "trainer/weights.safetensors").unlink()
    elif harm == "changed byte":
        (broken / "trainer/weights.safetensors").write_bytes(bytes(64))
    elif harm == "no hashes":
        (broken / "hashes.json").unlink()
    elif harm == "cut hashes":
        (broken / "hashes.json").write_text('{"config.json": "')
    else:
        (broken / "trainer/progress.json").unlink()
    with pytest.raises(CheckpointBroken, match="b000004"):
        verified_progress(broken)
    folder, progress, skipped = newest_complete(tmp_path)
    assert (folder, progress.batch) == (good, 2)
    assert list(skipped) == [broken]
    assert "b000004" in skipped[broken]


def test_a_folder_that_is_still_being_written_is_no_checkpoint(tmp_path: Path):
    (tmp_path / ".b000004.x1y2").mkdir()
    assert newest_complete(tmp_path) == (None, Progress(), {})


def test_a_broken_checkpoint_set_aside_is_taken_for_none(tmp_path: Path):
    write_checkpoint(tmp_path, 2)
    for _ in range(2):  # the second time over the first one's remains
        set_broken_aside(write_checkpoint(tmp_path, 4))
    assert newest_complete(tmp_path)[1].batch == 2
    assert newest_complete(tmp_path)[2] == {}


@pytest.mark.parametrize(("keep", "wanted"), [(1, 9), (2, 4), (3, 4)])
def test_batches_stay_replayable_from_the_checkpoint_before_the_newest(tmp_path: Path, keep: int, wanted: int):
    for batch in (2, 4, 9):
        write_checkpoint(tmp_path, batch)
    assert replayable_from(tmp_path, 9, keep) == wanted


def test_with_a_first_checkpoint_everything_stays_replayable(tmp_path: Path):
    write_checkpoint(tmp_path, 2)
    assert replayable_from(tmp_path, 2, keep=2) == 0
