"""Takes files over from another job's folder into a new job's folder before the new job is stored.

Files are linked where the file system supports it and copied otherwise, so later changes to the other job (pruned or
deleted checkpoints) do not affect the new one.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Protocol, TypedDict

from structlog.stdlib import BoundLogger

from services.api.artifacts.storage import checkpoint_files, checkpoint_names, deleted_folders
from services.api.rest.problems import Problem
from services.contracts.archive import ArchiveName
from services.contracts.jobfolder import FINAL, JobFolder
from services.contracts.json_records import EVALUATION
from services.contracts.model_files import goes_along
from services.contracts.origin import TakenOver

_NUMBERED = re.compile(r"[bv](\d{6,})")
ABANDONED_S, SWEEP_S = 24 * 3600.0, 3600.0
"""A folder that nobody has touched for a day is nobody's, however slow the storage; looked for once an hour."""


class Source(TypedDict):
    """The job and checkpoint that are taken over, by the names of `Origin`."""

    job_id: str
    checkpoint: str | None
    version: int | None


class Taken(Protocol):
    """A policy, or a whole training."""

    @property
    def named(self) -> Source:
        """Job, checkpoint and version."""

    def bring(self, folder: Path) -> None:
        """Into the new job's folder, wholly or not at all. Raises Problem 409 when it was pruned meanwhile."""


@dataclass(frozen=True)
class Policy:
    """A pinned policy in Hugging Face format: what the new job's `base` is to be."""

    job_id: str
    checkpoint: str
    version: int | None
    files: Mapping[str, Path]

    @property
    def named(self) -> Source:
        return {"job_id": self.job_id, "checkpoint": self.checkpoint, "version": self.version}

    def bring(self, folder: Path) -> None:
        with _whole_folder(folder) as unfinished:
            _bring_files(self.files, JobFolder(unfinished).base)


@dataclass(frozen=True)
class Training:
    """A job's training up to its newest checkpoint; without one, only the base it started from, if it has that."""

    job_id: str
    folder: Path
    checkpoint: str | None

    @property
    def version(self) -> int | None:
        return _version(self.folder, self.checkpoint) if self.checkpoint else None

    @property
    def has_base(self) -> bool:
        return JobFolder(self.folder).base.is_dir()

    @property
    def named(self) -> Source:
        return {"job_id": self.job_id, "checkpoint": self.checkpoint, "version": self.version}

    def bring(self, folder: Path) -> None:
        theirs = JobFolder(self.folder)
        with _whole_folder(folder) as unfinished:
            ours = JobFolder(unfinished)
            if self.has_base:
                _bring_tree(theirs.base, ours.base)
            if self.checkpoint is None or self.version is None:
                return
            # the older ones too: the trainer falls back on them when the newest proves broken
            _bring_tree(theirs.checkpoints, ours.checkpoints)
            if theirs.metrics.is_file():  # copied, since the trainer appends to it
                shutil.copyfile(theirs.metrics, ours.metrics)
            _bring_files(_rollouts_before(theirs, self.version), ours.archives)
            _bring_evaluations(theirs, ours, self.version)
            taken = TakenOver(job_id=self.job_id, checkpoint=self.checkpoint, taken_unix_s=time.time())
            ours.origin.write_text(taken.model_dump_json())


def policy_of(folder: Path, job_id: str, *, checkpoint: str | None = None, version: int | None = None) -> Policy:
    """A policy of a job: a checkpoint by name, or the one of a version; neither: the newest checkpoint.

    Raises:
        Problem: 404 says what there is.
    """
    if version is not None:
        return _policy_of_version(folder, job_id, version)
    names = checkpoint_names(folder)
    name = checkpoint or next(reversed(names), None)
    if name is None:
        raise Problem(404, f"job {job_id} has no checkpoint yet")
    if (unlisted := _NUMBERED.fullmatch(name)) and name.startswith("v"):
        return _policy_of_version(folder, job_id, int(unlisted[1]))
    return Policy(job_id, name, _version(folder, name), checkpoint_files(folder, name))


def training_of(folder: Path, job_id: str) -> Training:
    """The training that a retry of the job goes on with."""
    newest = next((name for name in reversed(checkpoint_names(folder)) if name != FINAL), None)
    return Training(job_id, folder, newest)


def _policy_of_version(folder: Path, job_id: str, version: int) -> Policy:
    named = {_version(folder, name): name for name in checkpoint_names(folder)}
    if version in named:
        return Policy(job_id, named[version], version, checkpoint_files(folder, named[version]))
    published, base = JobFolder(folder).policy(version), JobFolder(folder).base
    if published.is_dir() and base.is_dir():
        files = {path.name: path for path in base.iterdir() if path.is_file() and goes_along(path.name)}
        files |= {path.name: path for path in published.glob("*.safetensors")}
        return Policy(job_id, published.name, version, files)
    known = ", ".join(str(number) for number in sorted(number for number in named if number is not None)) or "none"
    raise Problem(404, f"version {version} of job {job_id} is not kept; checkpoints hold versions: {known}")


def _version(folder: Path, checkpoint: str) -> int | None:
    if (numbered := _NUMBERED.fullmatch(checkpoint)) is not None:
        return int(numbered[1])
    try:
        return int(json.loads(JobFolder(folder).summary.read_bytes())["batches"])
    except (OSError, ValueError, KeyError):
        return None


def _rollouts_before(folder: JobFolder, batch: int) -> dict[str, Path]:
    """Archives of the batches and evaluations before it; later ones are played, and archived, again."""
    found = {path: ArchiveName.of(path.name) for path in folder.archives.glob("*.zlib")}
    return {path.name: path for path, name in found.items() if name is not None and name.number < batch}


def _bring_evaluations(source: JobFolder, target: JobFolder, version: int) -> None:
    """Those of versions that the checkpoint holds; the trainer finds them and measures nothing twice."""
    if source.evaluations.is_file():
        results = json.loads(source.evaluations.read_bytes())
        kept = [result for result in results if EVALUATION.fields(result)["version"] <= version]
        target.evaluations.write_text(json.dumps(kept, indent=2))


def _bring_files(files: Mapping[str, Path], target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name, path in files.items():
        _link(path, target / name)


def _bring_tree(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=_link, ignore=shutil.ignore_patterns(".*"))


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError as error:
        raise Problem(409, f"{Path(source).parent.name} is being removed: try again") from error
    except OSError:  # another file system, or another owner
        shutil.copyfile(source, target)


async def keep_swept(jobs: Path, log: BoundLogger) -> None:
    """Remove, at intervals and without end, what dead processes have left half-made or half-removed."""
    while True:
        for path in await asyncio.to_thread(sweep, jobs, time.time() - ABANDONED_S):
            log.info("abandoned_folder_removed", path=str(path))
        await asyncio.sleep(SWEEP_S)


def sweep(jobs: Path, before_unix_s: float) -> list[Path]:
    """Remove what was begun before that time and never became a job's folder, since its process died, and jobs and
    checkpoints that were deleted, whenever that was; gives what it was."""
    abandoned = {path for path in jobs.glob(".j*") if _touched_unix_s(path) < before_unix_s}
    found = sorted(abandoned.union(deleted_folders(jobs)))
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return found


def _touched_unix_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # it was finished meanwhile
        return math.inf


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))  # `sweep` knows the name
    try:
        yield unfinished
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
