"""Writes a job's files atomically: under a temporary name, synced, then renamed."""

from __future__ import annotations

from pathlib import Path

from services.contracts.jobfolder import JobFolder
from services.kit.files import whole_file


def made_folder(data_dir: Path, job: str) -> JobFolder:
    """The job's folder, made when missing; absolute, since replicas read it from elsewhere."""
    folder = JobFolder(JobFolder.of(data_dir, job).root.resolve())
    folder.root.mkdir(parents=True, exist_ok=True)
    return folder


def write_durably(path: Path, payload: bytes) -> None:
    """Write a file so that it is there wholly or not at all, whatever dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(payload)
