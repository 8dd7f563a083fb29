"""Marks a data folder as in use: a lock that ends with its holder, and a record by which clients find the stack."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

LOCK, RECORD = "stack.lock", "stack.json"
_TRIES, _BETWEEN_S = 20, 0.05
"""A process that checks whether the folder is held shares the lock for a moment."""


class AlreadyHeld(Exception):
    """Another stack runs on this folder; the message says who."""


class FolderRefused(Exception):
    """The stack can write no file in the data folder."""

    def __init__(self, data_dir: Path, error: OSError) -> None:
        super().__init__(f"no file can be written in {data_dir}: {error.strerror}")


@contextmanager
def held_folder(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir` (made when missing) while the block runs; the record is removed at its end.

    Raises:
        AlreadyHeld: another process holds it.
        FolderRefused: its disk is full or read-only, or it belongs to another user.
    """
    with ExitStack() as held:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            lock = held.enter_context((data_dir / LOCK).open("ab+", buffering=0))
            if not _taken(lock):
                raise AlreadyHeld(_holder(data_dir))
            (data_dir / RECORD).unlink(missing_ok=True)  # left by a stack that was killed
            lock.truncate(0)
            lock.write(str(os.getpid()).encode())
        except OSError as error:
            raise FolderRefused(data_dir, error) from error
        try:
            yield
        finally:
            with suppress(OSError):  # read-only since; the lock says that nobody holds it
                (data_dir / RECORD).unlink(missing_ok=True)


def write_record(data_dir: Path, record: Mapping[str, object]) -> None:
    """Replace the record as a whole; only its owner can read it."""
    temporary = data_dir / f"{RECORD}.tmp"
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(record, indent=2) + "\n")
    temporary.replace(data_dir / RECORD)


def _taken(lock: IO[bytes]) -> bool:
    for _ in range(_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_BETWEEN_S)
    return False


def _holder(data_dir: Path) -> str:
    pid = (data_dir / LOCK).read_text().strip() or "unknown"
    try:
        url = json.loads((data_dir / RECORD).read_text())["api_url"]
    except (OSError, ValueError, KeyError):
        url = "not ready yet"
    return f"a stack runs on {data_dir} already: process {pid}, API {url}"
