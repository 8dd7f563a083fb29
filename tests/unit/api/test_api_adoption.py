"""Inherited files stay what they were, whatever happens to where they came from."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from services.api.artifacts.storage import checkpoint_names, delete_checkpoint
from services.api.jobs.takeover import policy_of, sweep, training_of
from services.api.rest.problems import Problem
from tests.job_files import files_below, safetensors, write_job_files, write_policy


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_job_files(tmp_path / "source")
    return tmp_path / "source"


def test_the_newest_policy_is_the_final_one_else_the_last_checkpoint(source: Path) -> None:
    assert policy_of(source, "s").checkpoint == "b000004"
    write_policy(source / "final", 9)
    (source / "summary.json").write_text('{"batches": 9}')
    assert (policy_of(source, "s").checkpoint, policy_of(source, "s").version) == ("final", 9)
    assert policy_of(source, "s", version=9).checkpoint == "final"
    assert training_of(source, "s").checkpoint == "b000004", "a final policy holds no optimizer"


def test_a_checkpoint_that_the_trainer_set_aside_is_none(source: Path) -> None:
    (source / "checkpoints" / "b000004").rename(source / "checkpoints" / "broken-b000004")
    assert checkpoint_names(source) == ["b000002"]


def test_what_was_taken_survives_the_deletion_of_where_it_came_from(source: Path, tmp_path: Path) -> None:
    policy_of(source, "s", checkpoint="b000002").bring(tmp_path / "new")
    delete_checkpoint(source, "b000002", ended=False)
    assert (tmp_path / "new" / "base" / "model.safetensors").read_bytes() == safetensors(2, 8)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755


def test_files_are_copied_where_they_cannot_be_linked(source: Path) -> None:
    with TemporaryDirectory(dir="/dev/shm") as other:
        if Path(other).stat().st_dev == source.stat().st_dev:
            pytest.skip("/dev/shm is no file system of its own here")
        training_of(source, "s").bring(Path(other) / "new")
        assert files_below(Path(other) / "new") >= {"checkpoints/b000004/trainer/progress.json", "base/config.json"}


def test_a_source_that_vanishes_meanwhile_leaves_no_half_folder(source: Path, tmp_path: Path) -> None:
    policy = policy_of(source, "s", checkpoint="b000002")
    (source / "checkpoints" / "b000002" / "tokenizer.json").unlink()
    with pytest.raises(Problem, match="being removed"):
        policy.bring(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_evaluations_of_versions_that_are_trained_again_are_left_behind(source: Path, tmp_path: Path) -> None:
    training_of(source, "s").bring(tmp_path / "new")
    kept = json.loads((tmp_path / "new" / "evaluations.json").read_bytes())
    assert [one["version"] for one in kept] == [2, 4]


def test_a_version_that_is_not_kept_is_404_and_says_which_are(source: Path) -> None:
    with pytest.raises(Problem, match="checkpoints hold versions: 2, 4"):
        policy_of(source, "s", version=1)
    assert policy_of(source, "s", checkpoint="v000005").version == 5


def test_what_a_dead_process_left_of_a_deleted_checkpoint_is_swept(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    write_job_files(jobs / "j1")
    write_policy(jobs / "j1" / "final", 9)
    for folder, name in ((jobs / "j1" / "checkpoints", "b000002"), (jobs / "j1", "final")):
        (folder / name).rename(folder / f".{name}.deleted")  # as `delete_checkpoint` does first
    (jobs / ".j2.half").mkdir()
    before = files_below(jobs)
    removed = sweep(jobs, before_unix_s=0)
    assert sorted(path.name for path in removed) == [".b000002.deleted", ".final.deleted"]
    assert files_below(jobs) == {path for path in before if ".deleted/" not in path}
    assert (jobs / ".j2.half").is_dir(), "what is being made is left alone"


def test_a_published_version_is_taken_without_the_bases_weights_in_any_format(source: Path) -> None:
    for name in ("tf_model.h5", "flax_model.msgpack", "model.safetensors.index.json", "pytorch_model.bin"):
        (source / "base" / name).write_text("{}")
    files = policy_of(source, "s", checkpoint="v000005").files
    assert set(files) == {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    assert files["model.safetensors"].parent.name == "v000005"
