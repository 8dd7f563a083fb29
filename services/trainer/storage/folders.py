"""Writes a job's files atomically: under a temporary name, synced, then renamed."""

from __future__ import annotations

import os
from pathlib import Path

from services.contracts.jobfolder import JobFolder


def made_folder(data_dir: Path, job: str) -> JobFolder:
    """The job's folder, made when missing; absolute, since replicas read it from elsewhere."""
    folder = JobFolder(JobFolder.of(data_dir, job).root.resolve())
    folder.root.mkdir(parents=True, exist_ok=True)
    return folder


def write_durably(path: Path, payload: bytes) -> None:
    """Write a file so that it is there wholly or not at all, whatever dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
