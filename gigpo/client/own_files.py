"""Writes files and folders into the user's folders, each by rename, and never removes the user's own files.

A folder that gigpo has written holds a marker, `.gigpo.json`, with its kind (a checkpoint, results, a comparison), for
some kinds its job, and name -> SHA-256 of each file as gigpo wrote it. A file belongs to gigpo while it still has that
content. Without being asked, gigpo replaces or removes only its own files, and only with files of the same kind.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Literal

from gigpo.client.errors import BadInput

MARKER = ".gigpo.json"
ARRIVING = ".gigpo-arriving"
"""A folder in which files wait until all of them are there; remains of a killed process are removed."""
_LOCK = ".gigpo-lock"
"""Held by who fills the temporary folder; it shows that gigpo has made that folder."""
ROOM_BYTES = 1 << 20
"""Least free room, bytes, with which a command begins to write."""
_SHOWN = 3
"""Names in a refusal."""

Kind = Literal["checkpoint", "result", "comparison", "none"]
"""The contents of a folder; `none`: nothing that gigpo could have written into the folder itself."""
Digests = Mapping[str, str]
"""File name -> SHA-256, hex."""


def require_own(folder: Path, kind: Kind, *, force: bool = False, known: Digests | None = None) -> None:
    """Check that files can be put into `folder`: it is missing or empty, or holds gigpo's own files alone.

    Args:
        force: other files may be there; those of the same name are replaced.
        known: files of exactly this content count as gigpo's own.

    Raises:
        BadInput: it holds anything else, or is no folder, or something of the user's has the temporary folder's name.
    """
    if not folder.is_dir() and os.path.lexists(folder):
        what = "a link to nothing" if folder.is_symlink() and not folder.exists() else "a file"
        raise BadInput(f"{folder}: want a folder, this is {what}")
    _require_arriving(folder / ARRIVING)
    if not force and (others := foreign(folder, kind, known)):
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        raise BadInput(
            f"{folder} contains other files than a gigpo {kind}: {', '.join(others[:_SHOWN])}{more}; name another "
            "folder, or give --force (in Python force=True), which replaces files of the same name and removes none"
        )


def owner(folder: Path, kind: Kind) -> str | None:
    """The job whose files of this kind gigpo has put there; "" where that is not noted, None: there are none."""
    marker = _marker(folder, kind)
    return None if marker is None else str(marker.get("of", ""))


def foreign(folder: Path, kind: Kind, known: Digests | None = None) -> list[str]:
    """Names in `folder` that are not gigpo's own, sorted; a subfolder that gigpo has filled is its own."""
    if not folder.is_dir():
        return []
    noted, known = _noted(folder, kind), known or {}
    names = sorted(path.name for path in folder.iterdir() if path.name not in (MARKER, ARRIVING))
    return [name for name in names if not _is_own(folder / name, [*noted.get(name, ()), known.get(name, "")])]


@contextmanager
def filling(
    folder: Path, kind: Kind, *, of: str = "", force: bool = False, known: Digests | None = None
) -> Iterator[Path]:
    """A temporary folder to fill; when the block ends well its files go into `folder`, otherwise that is as it was.

    gigpo's own files of an earlier call that were not written again are removed: older weights would be read with the
    new ones.

    Args:
        of: the job whose files they are.

    Raises:
        BadInput: as `require_own`, or a subfolder has the name of a file, or another process fills the folder.
        OSError: names `folder`.
    """
    require_own(folder, kind, force=force, known=known)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    arriving = folder / ARRIVING
    try:
        with _naming(folder):
            arriving.mkdir(parents=True, exist_ok=True)
            with _held(arriving, folder):
                try:
                    yield arriving
                    _place(arriving, folder, {"kind": kind, "of": of})
                finally:
                    with suppress(OSError):
                        _empty(arriving)  # the lock goes last: a folder without it would be the user's
                    shutil.rmtree(arriving, ignore_errors=True)
    finally:
        for path in missing:
            with suppress(OSError):  # one that holds something stays
                path.rmdir()


def require_writable(folder: Path) -> None:
    """Check that `folder`, or the nearest one above it that is there, takes a new file of `ROOM_BYTES`; nothing is left
    of it.

    Raises:
        BadInput: names the folder.
    """
    place = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        with TemporaryFile(dir=place) as probe:
            probe.write(bytes(ROOM_BYTES))
    except OSError as error:
        raise BadInput(f"{folder}: no file can be written there: {error.strerror} ({place})") from error


def remove_own(folder: Path, kind: Kind) -> None:
    """Remove what gigpo wrote into `folder`, and the folder when nothing else is in it."""
    if not _noted(folder, kind):
        return
    with filling(folder, kind, force=True):
        pass
    (folder / MARKER).unlink()
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def arriving_file(target: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """A temporary file to write; when the block ends well it becomes `target`, otherwise nothing is left of it.

    Raises:
        BadInput: `target` is a folder or a device, or is there already and `force` is not given.
        OSError: names `target`.
    """
    if target.exists() and not target.is_file():
        raise BadInput(f"{target}: want the name of a file, this is {'a folder' if target.is_dir() else 'a device'}")
    if os.path.lexists(target) and not force:
        raise BadInput(f"{target} is there already; name another file, or give --force (in Python force=True)")
    missing = [path for path in target.parents if not path.exists()]
    arriving = target.with_name(f"{ARRIVING}-{secrets.token_hex(4)}")
    try:
        with _naming(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with arriving.open("xb") as file:
                    yield file
                arriving.replace(target)
            finally:
                arriving.unlink(missing_ok=True)
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()


def _place(arriving: Path, folder: Path, head: Mapping[str, str]) -> None:
    """Put the files into the folder. The marker knows older and newer ones meanwhile, so an end at any point is mended
    by the next call."""
    files = {path.name: _digest(path) for path in sorted(arriving.iterdir()) if path.name != _LOCK}
    for name in files:
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            raise BadInput(f"{folder / name}: cannot write the file, a folder has this name")
    noted = _noted(folder, head["kind"])
    stale = [name for name in noted if name not in files and _is_own(folder / name, noted[name])]
    both = {name: [*noted.get(name, ()), digest] for name, digest in files.items()}
    _note(arriving, folder, {**head, "files": {**noted, **both}})
    for name in stale:
        (folder / name).unlink()
    for name in files:
        (arriving / name).replace(folder / name)
    _note(arriving, folder, {**head, "files": {name: [digest] for name, digest in files.items()}})


def _is_own(path: Path, digests: list[str]) -> bool:
    """Whether gigpo wrote it; what cannot be read is not its own."""
    try:
        if path.is_symlink():
            return False
        if path.is_dir():
            return (path / MARKER).is_file() or _holds_own_alone(path)
        return any(digests) and path.is_file() and _digest(path) in digests
    except OSError:
        return False


def _holds_own_alone(folder: Path) -> bool:
    """Whether a folder without a marker holds something, and only folders that gigpo has filled.

    Ends at the first other thing, files first: the folder may be as large as `/`.
    """
    inside = list(folder.iterdir())
    paths = sorted((path for path in inside if path.name not in (MARKER, ARRIVING)), key=Path.is_dir)
    return bool(inside) and all(_is_own(path, []) for path in paths)


def _noted(folder: Path, kind: str) -> dict[str, list[str]]:
    """File name -> digests of a marker of this kind; empty where there is none."""
    noted = (_marker(folder, kind) or {}).get("files", {})
    return {name: [str(one) for one in digests] for name, digests in noted.items() if Path(name).name == name}


def _marker(folder: Path, kind: str) -> dict[str, Any] | None:
    """The marker of this kind; None: there is none, or it is not as gigpo writes it."""
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        ours = marker["kind"] == kind and all(isinstance(one, list) for one in marker["files"].values())
        return dict(marker) if ours else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _note(arriving: Path, folder: Path, content: Mapping[str, object]) -> None:
    marker = arriving / MARKER
    marker.write_text(json.dumps(content, indent=2) + "\n")
    marker.replace(folder / MARKER)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _held(arriving: Path, folder: Path) -> Iterator[None]:
    """Hold the temporary folder alone, and empty it of what a killed process left. BadInput: another one holds it."""
    with (arriving / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{folder}: another gigpo process is writing into it") from None
        _empty(arriving)
        yield


def _require_arriving(arriving: Path) -> None:
    """Check that the temporary folder is missing, empty or gigpo's: what is in it will be removed."""
    if arriving.is_dir() and not arriving.is_symlink():
        with suppress(FileNotFoundError):  # another gigpo has just removed it
            if (arriving / _LOCK).is_file() or not any(arriving.iterdir()):
                return
    if os.path.lexists(arriving):
        raise BadInput(f"{arriving}: gigpo needs this name for its own folder; rename the existing one")


def _empty(arriving: Path) -> None:
    """Remove all but the lock."""
    for path in arriving.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let the system's errors name what the user gave in place of a temporary file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
