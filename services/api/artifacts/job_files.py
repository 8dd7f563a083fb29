"""Deletes a job's files: those that the platform wrote into its folder. All other files stay."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from services.api.artifacts.storage import DELETED
from services.contracts.jobfolder import JobFolder


@dataclass(frozen=True)
class Entries:
    """The files in a job's folder."""

    written: Sequence[Path]
    """Paths that the platform wrote; they are deleted with the job."""
    foreign: Sequence[Path]
    """Paths that somebody else wrote; they stay."""

    @property
    def size_bytes(self) -> int:
        """The size of all files that are removed; links are not followed."""
        return sum(_size(path) for path in self.written)


def entries(folder: Path) -> Entries:
    """The entries of a job's folder; none when there is no folder."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    names = {path.name for path in JobFolder(folder).written}
    ours = [path for path in found if path.name in names or _is_leftover(path.name, names)]
    return Entries(ours, [path for path in found if path not in ours])


@contextmanager
def taken_aside(folder: Path) -> Iterator[None]:
    """Move what the platform wrote aside while the block runs, then delete it.

    When the block raises, it is brought back. A folder in which nothing else lies goes too.
    """
    real = folder.resolve()  # an operator may have moved it to another disk
    if not real.is_dir():
        yield
        return
    aside = Path(mkdtemp(prefix=f".{folder.name}.", dir=real.parent))  # `sweep` knows the name
    try:
        _move(entries(real).written, aside)
        yield
    except BaseException:
        _move(list(aside.iterdir()), real)
        aside.rmdir()
        raise
    with suppress(OSError):  # somebody's files lie there
        real.rmdir()
        if folder.is_symlink():
            folder.unlink()
    with suppress(OSError):  # `sweep` goes on with what is left
        _delete(aside.rename(aside.with_name(aside.name + DELETED)))


def _move(paths: Sequence[Path], target: Path) -> None:
    for path in paths:
        path.rename(target / path.name)


def _delete(aside: Path) -> None:
    for path in aside.iterdir():
        if path.is_symlink():  # what it leads to is somebody's
            path.unlink()
    shutil.rmtree(aside)


def _is_leftover(name: str, names: set[str]) -> bool:
    """Whether it is a file or folder of ours that was being written, replaced or deleted when its process died."""
    return any(name.startswith(f".{one}.") for one in names)


def _size(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    total = 0
    for place, _, files in os.walk(path):
        for file in files:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, file)).st_size
    return total
