"""Files of users and models of the hub go with the last job that names them."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.api.jobs.shared_files import LEAST_AGE_S, remove_unnamed
from services.api.jobs.submissions import NewJob, Submissions
from services.api.jobs.user_files import with_kept_files
from services.api.rest.caller import THIS_MACHINE
from services.api.sql.database import Database
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, parse_spec
from services.contracts.references import hub_store
from services.contracts.user_files import file_reference, files_root

NAMED, UNNAMED, FRESH = ("a" * 64, "b" * 64, "c" * 64)
COMMIT, OTHER = "1" * 40, "2" * 40


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'api.db'}")
    await database.migrate()
    yield database
    await database.close()


def prompts(**more: Any) -> JobSpec:
    document = {
        "model": {"model": "team/small", "model_revision": COMMIT},
        "environment": {"use_gym_env": False},
        "rewards": {"reward_funcs": [f"{file_reference(NAMED, 'my.py')}:score"]},
    }
    return parse_spec({**document, **more})


def aged(path: Path) -> Path:
    before = time.time() - 2 * LEAST_AGE_S
    for one in (path, *path.rglob("*")):
        os.utime(one, (before, before), follow_symlinks=False)
    return path


def kept(data_dir: Path, name: str) -> Path:
    folder = files_root(data_dir) / name
    folder.mkdir(parents=True)
    (folder / "my.py").touch()
    return folder


def fetched(data_dir: Path, commit: str) -> Path:
    """A model as the hub's own cache has it."""
    repository = hub_store(data_dir) / "models--team--small"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    blob = repository / "blobs" / commit
    blob.parent.mkdir(exist_ok=True)
    blob.write_text("weights")
    (snapshot / "model.safetensors").symlink_to(Path("..", "..", "blobs", commit))
    return snapshot


async def test_only_what_no_job_names_is_removed_and_only_when_it_is_old(database: Database, tmp_path: Path) -> None:
    environment = EnvironmentInfo(id="prompts")
    await Submissions(database).store(NewJob(caller=THIS_MACHINE, spec=prompts(), environment=environment))
    named, unnamed = aged(kept(tmp_path, NAMED)), aged(kept(tmp_path, UNNAMED))
    broken, fresh, mine = aged(kept(tmp_path, ".arriving-x")), kept(tmp_path, FRESH), aged(kept(tmp_path, "mine"))
    snapshot, other = fetched(tmp_path, COMMIT), fetched(tmp_path, OTHER)
    aged(hub_store(tmp_path))
    await remove_unnamed(database, tmp_path)
    there = [path.exists() for path in (named, unnamed, broken, fresh, mine, snapshot, other)]
    assert there == [True, False, False, True, True, True, False]
    assert (snapshot / "model.safetensors").read_text() == "weights"


async def test_an_installation_without_shared_files_is_left_alone(database: Database, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    await remove_unnamed(database, tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_files_that_are_taken_again_are_new_again(tmp_path: Path) -> None:
    """A submission that is not stored yet must not lose them."""
    (tmp_path / "my.py").write_text("def score(completion):\n    return 1\n")
    functions = {"rewards": {"reward_funcs": [f"{tmp_path / 'my.py'}:score"]}}
    spec = with_kept_files(prompts(**functions), tmp_path, None)
    (folder,) = files_root(tmp_path).iterdir()
    for again in (prompts(**functions), spec):
        aged(folder)
        with_kept_files(again, tmp_path, None)
        assert time.time() - folder.stat().st_mtime < LEAST_AGE_S
