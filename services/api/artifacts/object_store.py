"""Copies of checkpoints in an object store: S3, or whatever else `fsspec` has a file system for.

A checkpoint is `<url>/<job>/<name>/<file>` and, written last, `<url>/<job>/<name>.json` with the size and SHA-256 of
each file: where that stands, the copy is whole. Credentials come from the environment, as the store's own library reads
them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path, PurePosixPath
from typing import IO

import fsspec
from fsspec.callbacks import NoOpCallback

from services.api.artifacts.storage import names_a_checkpoint
from services.kit.files import sync_folder

CHUNK_BYTES = 1 << 22
Digests = dict[str, tuple[int, str]]
"""File, relative to its checkpoint -> its size in bytes and its SHA-256."""


class StoreError(Exception):
    """The store does not hold what was asked for, or not as it was written; a sentence."""


class ObjectStore:
    """The copies below one URL.

    Args:
        url: such as `s3://bucket/prefix`.

    Raises:
        StoreError: no file system of that kind is installed, or the URL is none.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files, root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise StoreError(f"{url}: want the URL of a store whose library is installed: {error}") from error
        self._root = root.rstrip("/")

    def save(self, job: str, name: str, folder: Path) -> int:
        """Copy a checkpoint and read the copy back; returns its bytes, 0 where the same copy stands there already.

        Raises:
            StoreError: what was read back is not what was written.
            OSError: the store or the disk does not answer.
        """
        digests, at = _digests(folder), self._at(job, name)
        if self._stored(job, name) == digests:
            return 0
        for file, (size, digest) in digests.items():
            self._files.put_file(str(folder / file), f"{at}/{file}", callback=NoOpCallback())
            with self._files.open(f"{at}/{file}", "rb") as copy:
                if (found := _digest(copy)) != (size, digest):
                    raise StoreError(f"{at}/{file}: want {size} bytes with SHA-256 {digest}, read back {found}")
        self._files.pipe_file(f"{at}.json", json.dumps(digests, sort_keys=True).encode())
        return sum(size for size, _ in digests.values())

    def names(self, job: str) -> list[str]:
        """The checkpoints of a job whose copies are whole, by name."""
        try:
            found = self._files.ls(f"{self._root}/{job}", detail=False, refresh=True)
        except FileNotFoundError:
            return []
        names = [PurePosixPath(str(one)) for one in found]
        return sorted(one.stem for one in names if one.suffix == ".json" and names_a_checkpoint(one.stem))

    def restore(self, job: str, name: str, folder: Path) -> int:
        """Bring a copy back to `folder`, which appears when it is whole; returns its bytes.

        Raises:
            StoreError: `folder` exists, there is no such copy, or it is damaged.
            OSError: the store or the disk does not answer.
        """
        if folder.exists():
            raise StoreError(f"{folder}: want a checkpoint that is gone, this one exists")
        digests, at = self._stored(job, name), self._at(job, name)
        if digests is None:
            raise StoreError(f"{at}: the store has no whole copy of it")
        arriving = folder.with_name(f".{folder.name}.restoring")
        shutil.rmtree(arriving, ignore_errors=True)
        for file, wanted in digests.items():
            path = arriving / file
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(f"{at}/{file}", str(path), callback=NoOpCallback())
            with path.open("rb") as copy:
                if (found := _digest(copy)) != wanted:
                    raise StoreError(f"{at}/{file}: want {wanted}, got {found}: the copy is damaged")
        arriving.replace(folder)
        sync_folder(folder.parent)
        return sum(size for size, _ in digests.values())

    def _at(self, job: str, name: str) -> str:
        return f"{self._root}/{job}/{name}"

    def _stored(self, job: str, name: str) -> Digests | None:
        try:
            told = json.loads(self._files.cat_file(f"{self._at(job, name)}.json"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StoreError(f"{self._at(job, name)}.json: want JSON: {error}") from error
        if outside := [file for file in told if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts]:
            raise StoreError(f"{self._at(job, name)}.json: want files inside the checkpoint, got {outside[0]}")
        return {str(file): (int(size), str(digest)) for file, (size, digest) in told.items()}


def _digests(folder: Path) -> Digests:
    found = {}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = _digest(file)
    return found


def _digest(file: IO[bytes]) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()
