"""What a job leaves on shared storage, read only: rollouts and checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from services.api.problems import not_found
from services.api.views import CheckpointFile, CheckpointView

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What a folder or file may be called; so no name can leave its folder."""
FINAL = "final"


def job_folder(data_dir: Path, job_id: str) -> Path:
    """Folder of one job. Raises Problem 404 for what cannot be a job's id."""
    if not _NAME.fullmatch(job_id):
        raise not_found("job", job_id)
    return data_dir / "jobs" / job_id


def checkpoints(folder: Path) -> list[CheckpointView]:
    """The job's complete checkpoints in order of name, the final one last."""
    return [_view(path) for path in _checkpoint_folders(folder)]


def _checkpoint_folders(folder: Path) -> Iterator[Path]:
    candidates = [*sorted((folder / "checkpoints").glob("*")), folder / FINAL]
    return (path for path in candidates if _NAME.fullmatch(path.name) and (path / "config.json").is_file())


def _view(path: Path) -> CheckpointView:
    files = [
        CheckpointFile(name=file.name, size_bytes=file.stat().st_size)
        for file in sorted(path.iterdir())
        if file.is_file() and not file.is_symlink() and _NAME.fullmatch(file.name)
    ]
    made = (path / "config.json").stat().st_mtime
    return CheckpointView(name=path.name, final=path.name == FINAL, created_unix_s=made, files=files)


def checkpoint_file(folder: Path, name: str, file: str) -> Path:
    """A file of a checkpoint. Raises Problem 404 for every other name, whatever it looks like."""
    found = next((path for path in _checkpoint_folders(folder) if path.name == name), None)
    if found is None:
        raise not_found("checkpoint", name)
    if file not in {one.name for one in _view(found).files}:
        raise not_found(f"file in checkpoint {name}", file)
    return found / file
