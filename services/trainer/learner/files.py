"""Writes files and folders atomically: under a temporary name, synced, then renamed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from services.kit.files import sync_folder, whole_file

READABLE = 0o644
"""Other services, often as other users, read what the trainer writes."""


def write_text(path: Path, text: str) -> str:
    """Write a UTF-8 file; return its hex sha256."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.chmod(READABLE)
        return file_hash(unfinished)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill; when the block ends well it becomes `folder`, otherwise nothing is left of it.

    A `folder` that already holds exactly these files is not touched, as somebody may be reading it; any other is
    replaced as a whole.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        for inner in [temporary, *(path for path in temporary.rglob("*") if path.is_dir())]:
            sync_folder(inner)
        if not folder.exists():
            temporary.rename(folder)
        elif file_hashes(folder) != file_hashes(temporary):
            _swap(temporary, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def file_hashes(folder: Path) -> dict[str, str]:
    """Path below `folder` -> hex sha256 of every file in it, however deep, sorted."""
    return {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def file_hash(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _swap(temporary: Path, folder: Path) -> None:
    aside = temporary.with_name(f"{temporary.name}.old")
    folder.rename(aside)
    temporary.rename(folder)
    shutil.rmtree(aside)
