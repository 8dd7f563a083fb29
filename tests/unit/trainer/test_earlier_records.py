"""Records of progress, batches and evaluations in a job's folder are read whatever version wrote them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.api.jobs import takeover
from services.contracts import json_records
from services.contracts.jobfolder import JobFolder
from services.contracts.json_records import EVALUATION, PROGRESS, RECORD, JsonKind
from services.contracts.summary import EvaluationResult
from services.contracts.versions import ContractError
from services.trainer.batch.metrics import append_record
from services.trainer.errors import JobFailed
from services.trainer.phases import evaluation
from services.trainer.phases.evaluation import read_results, write_results
from services.trainer.storage.checkpoint import STATE, newest_complete, write_hashes
from services.trainer.storage.progress import Progress, decode_progress, encode_progress
from services.trainer.trackers import tracking
from services.trainer.trackers.tracking import Tracking
from tests.earlier_versions import FOLDERS, IDS

every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=IDS)


def tracked(folder: Path) -> list[dict[str, float]]:
    """The figures that trackers are told of the batches."""
    nothing: Any = SimpleNamespace()
    rows: list[dict[str, float]] = []
    views = Tracking({}, JobFolder(folder), nothing)
    feeder: Any = SimpleNamespace(add=lambda row: rows.append(dict(row.figures)))
    views._feeders = [feeder]
    views.catch_up([])
    return rows


@every_folder
def test_the_records_of_every_earlier_version_are_read(folder: Path) -> None:
    results = read_results(JobFolder(folder))
    assert [(one.label, one.version, one.success, one.mismatch_kl) for one in results] == [
        ("before", 0, 0.25, 1e-4), ("random_actor", 0, 0.25, None)
    ]  # fmt: skip
    assert [row["success"] for row in tracked(folder)] == [0.0, 0.25]
    assert all("schema" not in row for row in tracked(folder))
    _, progress, _ = newest_complete(folder / "checkpoints")
    assert (progress.batch, progress.waiting, progress.totals.env_steps) == (2, [7, 8], 8)


def test_the_first_version_said_nothing_of_its_version() -> None:
    first = FOLDERS[0]
    texts = [first / "metrics.jsonl", first / "evaluations.json", *first.rglob("progress.json")]
    assert len(texts) == 3
    assert all("schema" not in path.read_text() for path in texts)


def test_what_is_written_today_says_its_version_and_is_read_by_earlier_releases(tmp_path: Path) -> None:
    results = read_results(JobFolder(FOLDERS[0]))
    write_results(JobFolder(tmp_path), results)
    written = json.loads((tmp_path / "evaluations.json").read_text())
    assert [one["schema"] for one in written] == [1, 1]
    assert [EvaluationResult.model_validate(one) for one in written] == results  # as they read it
    append_record(tmp_path / "metrics.jsonl", {"batch": 3})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"schema": 1, "batch": 3}
    progress = Progress(batch=2, waiting=[1])
    assert json.loads(encode_progress(progress))["schema"] == 1
    assert decode_progress(encode_progress(progress)) == progress


def halved(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "success": fields["success"] / 2}


def test_raising_a_kind_leaves_what_was_written_readable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(evaluation, "EVALUATION", JsonKind("e", (halved,)))
    monkeypatch.setattr(tracking, "RECORD", JsonKind("r", (halved, halved)))
    monkeypatch.setattr(json_records, "PROGRESS", JsonKind("p", (lambda fields: {**fields, "batch": 9},)))
    monkeypatch.setattr(takeover, "EVALUATION", JsonKind("e", (lambda fields: {**fields, "version": 7},)))
    assert [one.success for one in read_results(JobFolder(FOLDERS[0]))] == [0.125, 0.125]
    assert [row["success"] for row in tracked(FOLDERS[0])] == [0.0, 0.0625]
    assert newest_complete(FOLDERS[0] / "checkpoints")[1].batch == 9
    takeover._bring_evaluations(JobFolder(FOLDERS[0]), JobFolder(tmp_path), 6)
    assert json.loads((tmp_path / "evaluations.json").read_text()) == []
    written = tmp_path / "again"
    write_results(JobFolder(written), read_results(JobFolder(FOLDERS[0])))
    assert [one.success for one in read_results(JobFolder(written))] == [0.125, 0.125]  # upgraded once


NEWER = "has schema 2: a newer release wrote it, this service reads up to schema 1; upgrade this service"


@pytest.mark.parametrize("kind", [PROGRESS, EVALUATION, RECORD], ids=lambda kind: kind.name)
def test_a_newer_object_is_refused_with_the_side_to_upgrade(kind: JsonKind) -> None:
    with pytest.raises(ContractError, match=f"^{kind.name} {NEWER}$"):
        kind.fields({"schema": 2, "of": "tomorrow"})


@pytest.mark.parametrize("document", [[], 7, None, {"schema": "1"}, {"schema": 0}, {"schema": None}])
def test_what_is_no_object_of_a_version_is_refused(document: object) -> None:
    with pytest.raises(ContractError, match=r"^progress\.json: want "):
        PROGRESS.fields(document)


def test_fields_that_an_upgrade_cannot_take_are_refused() -> None:
    with pytest.raises(ContractError, match="r: want schema 1, got fields that are none: KeyError"):
        JsonKind("r", (halved,)).fields({})


@pytest.mark.parametrize("text", ['[{"schema": 2}]', "[", "7", "[7]", '[{"label": "before"}]', '{"schema": 2}'])
def test_evaluations_that_cannot_be_read_fail_the_job_with_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "evaluations.json").write_text(text)
    with pytest.raises(JobFailed, match=r"^evaluations\.json can't be read: "):
        read_results(JobFolder(tmp_path))


def test_a_newer_checkpoint_is_not_taken_for_a_broken_one(tmp_path: Path) -> None:
    """An older one would take its place, and what it holds would be trained again in another way."""
    for name in ("b000002", "b000003"):
        shutil.copytree(FOLDERS[0] / "checkpoints" / "b000002", tmp_path / name)
    newer = tmp_path / "b000003"
    (newer / STATE / "progress.json").write_text('{"schema": 2, "batch": 3}')
    write_hashes(newer)
    with pytest.raises(JobFailed, match=rf"^checkpoint b000003: progress\.json {NEWER}$"):
        newest_complete(tmp_path)
    (newer / STATE / "progress.json").write_text("{")
    write_hashes(newer)
    assert newest_complete(tmp_path)[0] == tmp_path / "b000002"
