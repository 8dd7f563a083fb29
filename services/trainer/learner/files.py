"""Writes files and folders atomically: under a temporary name, synced, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

READABLE = 0o644
"""Other services, often as other users, read what the trainer writes."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Write a safetensors file; return its hex sha256. Tensors must be contiguous and share no memory.

    Raises:
        OSError: the disk refuses it; nothing is left of it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(dict(tensors), temporary, metadata={"format": "pt", **(metadata or {})})
        return _publish(temporary, path)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> str:
    """Write a UTF-8 file; return its hex sha256."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        return _publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill; when the block ends well it becomes `folder`, else nothing is left of it.

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


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable: a rename is not, until then."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(temporary: Path, path: Path) -> str:
    temporary.chmod(READABLE)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    digest = file_hash(temporary)
    temporary.replace(path)
    sync_folder(path.parent)
    return digest


def _swap(temporary: Path, folder: Path) -> None:
    aside = temporary.with_name(f"{temporary.name}.old")
    folder.rename(aside)
    temporary.rename(folder)
    shutil.rmtree(aside)
