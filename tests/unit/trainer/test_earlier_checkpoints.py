"""A job goes on from a checkpoint that an earlier version wrote."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from learner_cases import job_spec, same_bits, weights_of
from safetensors.torch import load_file

from services.trainer.learner import state
from services.trainer.learner.errors import StateError
from services.trainer.learner.learner import Learner
from services.trainer.learner.state import State, read_state
from services.trainer.storage.checkpoint import STATE, newest_complete
from tests.earlier_versions import FOLDERS, IDS

every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=IDS)


def restored(folder: Path) -> Learner:
    """Resume as a successor does: the newest complete checkpoint is both the policy and the learner's state."""
    checkpoint, _, skipped = newest_complete(folder / "checkpoints")
    assert checkpoint is not None
    assert not skipped
    learner = Learner(job_spec(), checkpoint)
    learner.load(checkpoint / STATE)
    return learner


@every_folder
def test_a_checkpoint_of_every_earlier_version_is_restored(folder: Path) -> None:
    _, progress, _ = newest_complete(folder / "checkpoints")
    learner = restored(folder)
    saved = load_file(folder / "checkpoints" / "b000002" / STATE / "weights.safetensors")
    assert same_bits(weights_of(learner.model), saved)
    assert learner.optimizer_steps == 2
    assert (progress.batch, progress.next_cursor, progress.lost, progress.waiting) == (2, 9, 1, [7, 8])
    assert (progress.warmstarted, progress.totals.env_steps, progress.phases_s) == (True, 8, {"training": 1.5})


def negated(old: State) -> State:
    weights = {name: -tensor for name, tensor in old.tensors["weights"].items()}
    return replace(old, tensors={**old.tensors, "weights": weights})


def test_raising_the_state_s_version_leaves_old_checkpoints_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    before = weights_of(restored(FOLDERS[0]).model)
    monkeypatch.setattr(state, "UPGRADES", (negated,))
    after = weights_of(restored(FOLDERS[0]).model)
    assert all(torch.equal(after[name], -weight) for name, weight in before.items())


def test_what_the_raised_version_saves_is_not_upgraded_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(state, "UPGRADES", (negated,))
    learner = restored(FOLDERS[0])
    learner.save(tmp_path / "state")
    assert same_bits(dict(read_state(tmp_path / "state").tensors["weights"]), weights_of(learner.model))


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        (2, "learner.json has schema 2: a newer release wrote it, .* up to schema 1; upgrade this service"),
        (0, "learner.json: want a schema from 1 to 1, got 0"),
        ("x", "no saved learner"),
    ],
)
def test_a_state_of_another_version_is_refused(tmp_path: Path, version: object, sentence: str) -> None:
    folder = tmp_path / "trainer"
    shutil.copytree(FOLDERS[0] / "checkpoints" / "b000002" / STATE, folder)
    index = json.loads((folder / "learner.json").read_text())
    (folder / "learner.json").write_text(json.dumps({**index, "schema": version}))
    with pytest.raises(StateError, match=sentence):
        read_state(folder)
