"""A job's checkpoints on shared storage."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from services.api.rest.problems import Problem, not_found
from services.contracts.jobfolder import FINAL, JobFolder
from services.contracts.rest.checkpoints import CheckpointFile, CheckpointView

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""Allowed names of folders and files; no such name can lead out of its folder."""
_CHECKPOINT = re.compile(r"b[0-9]{6,}")
"""Named by the batches that it holds; the trainer sets broken ones aside under another name."""
_HASHES = "hashes.json"
"""File of digests of a checkpoint's files, the trainer's own too; no part of the Hugging Face folder."""
DELETED = ".deleted"
"""How a folder is called at the end whose removal has begun."""
_CHUNK_BYTES = 1 << 20
_END = bytes(2 * tarfile.BLOCKSIZE)


def job_folder(data_dir: Path, job_id: str) -> Path:
    """Folder of one job. Raises Problem 404 for what cannot be a job's id."""
    if not _NAME.fullmatch(job_id):
        raise not_found("job", job_id)
    return JobFolder.of(data_dir, job_id).root


def names_a_checkpoint(name: str) -> bool:
    """Whether a complete checkpoint may be called so."""
    return name == FINAL or _CHECKPOINT.fullmatch(name) is not None


def checkpoint_names(folder: Path) -> list[str]:
    """Names of the job's complete checkpoints, oldest first, the final one last."""
    return [path.name for path in _checkpoint_folders(folder)]


def checkpoints(folder: Path) -> list[CheckpointView]:
    """The job's complete checkpoints, oldest first, the final one last."""
    return [view for path in _checkpoint_folders(folder) if (view := _view(path)) is not None]


def checkpoint_files(folder: Path, name: str) -> dict[str, Path]:
    """File name -> path of a checkpoint's Hugging Face folder. Raises Problem 404."""
    return _plain_files(checkpoint_folder(folder, name))


def checkpoint_file(folder: Path, name: str, file: str) -> Path:
    """A file of a checkpoint. Raises Problem 404 for every other name."""
    files = checkpoint_files(folder, name)
    if file not in files:
        raise not_found(f"file in checkpoint {name}", file)
    return files[file]


def checkpoint_folder(folder: Path, name: str) -> Path:
    """The folder of a complete checkpoint. Raises Problem 404."""
    found = next((path for path in _checkpoint_folders(folder) if path.name == name), None)
    if found is None:
        raise not_found("checkpoint", name)
    return found


def delete_checkpoint(folder: Path, name: str, *, ended: bool) -> None:
    """Remove a checkpoint.

    Raises:
        OSError: the disk refuses it.
        Problem: 404; 409 for the newest one of a job that has not ended, which it would go on from.
    """
    path = checkpoint_folder(folder, name)
    names = [one for one in checkpoint_names(folder) if one != FINAL]
    if not ended and name in names[-1:]:
        raise Problem(409, f"cannot delete checkpoint {name}: its job has not ended and would restart from it")
    aside = path.with_name(f".{name}{DELETED}")
    try:
        path.rename(aside)  # renamed at once, so that nobody finds half of it
    except FileNotFoundError as error:  # somebody else was faster
        raise not_found("checkpoint", name) from error
    shutil.rmtree(aside, ignore_errors=True)


def deleted_folders(jobs: Path) -> list[Path]:
    """Remains of jobs and checkpoints whose removal was begun and not finished."""
    return [path for place in ("", "j*/", "j*/checkpoints/") for path in jobs.glob(f"{place}.*{DELETED}")]


def tar_stream(files: Mapping[str, Path], top: str) -> tuple[int, Iterator[bytes]]:
    """A tar of the files in a folder `top`, and its length in bytes; read as it is sent.

    Every file is opened before the first byte: one that is removed meanwhile is sent all the same.
    """
    with ExitStack() as opening:
        opened = [(name, opening.enter_context(path.open("rb"))) for name, path in sorted(files.items())]
        headers = [_header(f"{top}/{name}", os.fstat(file.fileno())) for name, file in opened]
        length = sum(len(header.tobuf()) + _padded(header.size) for header in headers) + len(_END)
        open_files = opening.pop_all()

    def chunks() -> Iterator[bytes]:
        with open_files:
            for header, (_, file) in zip(headers, opened, strict=True):
                yield header.tobuf()
                while chunk := file.read(_CHUNK_BYTES):
                    yield chunk
                yield bytes(_padded(header.size) - header.size)
            yield _END

    return length, chunks()


def _header(name: str, stat: os.stat_result) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mtime, header.mode = stat.st_size, int(stat.st_mtime), 0o644
    return header


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _checkpoint_folders(folder: Path) -> Iterator[Path]:
    kept = sorted(path for path in JobFolder(folder).checkpoints.glob("b*") if _CHECKPOINT.fullmatch(path.name))
    return (path for path in (*kept, JobFolder(folder).final) if (path / "config.json").is_file())


def _plain_files(path: Path) -> dict[str, Path]:
    found = (file for file in sorted(path.iterdir()) if file.is_file() and not file.is_symlink())
    return {file.name: file for file in found if _NAME.fullmatch(file.name) and file.name != _HASHES}


def _view(path: Path) -> CheckpointView | None:
    """None: it was removed while it was looked at."""
    try:
        made = (path / "config.json").stat().st_mtime
        sizes = {name: file.stat().st_size for name, file in _plain_files(path).items()}
        hashes = _noted_hashes(path)
    except FileNotFoundError:
        return None
    files = [CheckpointFile(name=name, size_bytes=size, sha256=hashes.get(name)) for name, size in sizes.items()]
    return CheckpointView(name=path.name, final=path.name == FINAL, created_unix_s=made, files=files)


def _noted_hashes(path: Path) -> dict[str, str]:
    """File name -> hex digest as the trainer wrote them; empty where it did not, or nobody can read it."""
    try:
        noted = json.loads((path / _HASHES).read_bytes())
    except (OSError, ValueError):
        return {}
    return (
        {name: digest for name, digest in noted.items() if isinstance(digest, str)} if isinstance(noted, dict) else {}
    )
