"""Data files that a job may name: the operator keeps them all below one folder, ENV_SERVICE_DATA_ROOT.

A field of an environment's Kwargs is a `DataFolder`: the job gives a path relative to the root, the environment gets an
absolute path. Kwargs are refused when no root is set or the path leads outside it. A file that a user sends with a job
is named `file:<hash>/<name>` and comes from the platform's own storage.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, TypeAdapter, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from gigpo.env.environment import KwargsError
from gigpo.env.progress import allow_silence, report_each

T = TypeVar("T")
_KEPT = re.compile(r"file:([0-9a-f]{64})/[^/]+")
JSON_S_PER_BYTE = 2e-7
"""Upper bound for any file, seconds a byte: parsing takes 4e-9 a byte on a quiet machine; disks may be slow."""


def _folder_below_root(name: Path, info: ValidationInfo) -> Path:
    if (kept := _KEPT.fullmatch(str(name))) is not None:
        return _kept_folder(kept[1], (info.context or {}).get("files_root"))
    root = (info.context or {}).get("data_root")
    if root is None:
        raise ValueError("this service has no folders of data (ENV_SERVICE_DATA_ROOT); name a file of yours as ./FILE")
    root = Path(root).resolve()
    folder = (root / name).resolve()  # links are followed first, so that none leads out
    if not folder.is_relative_to(root):
        raise ValueError("want a folder below the service's data root")
    if not folder.is_dir():
        raise ValueError("no such folder below the service's data root")
    return folder


def _kept_folder(sha: str, root: str | None) -> Path:
    """The folder of a user's files, which lie on the platform's storage by the hash of their content."""
    if root is None:
        raise ValueError("this service keeps no files of users: its operator sets ENV_SERVICE_FILES_ROOT")
    folder = Path(root) / sha
    if not folder.is_dir():
        raise ValueError("no file of this content is kept here")
    return folder


DataFolder = Annotated[Path, AfterValidator(_folder_below_root)]
"""A folder below the data root, or that of a file which came with the job; validate with
context={"data_root": path or None, "files_root": path or None}."""


def one_file(folder: Path, pattern: str) -> Path:
    """The one file that matches; KwargsError where there is none, or several."""
    found = sorted(path.name for path in folder.glob(pattern))
    if len(found) != 1:
        raise KwargsError(f"data: want one file {pattern} in {folder.name}, got {', '.join(found) or 'none'}")
    return folder / found[0]


def read_json(path: Path) -> Any:
    """The content of a JSON file; KwargsError names the file and the place."""
    try:
        with allow_silence(path.stat().st_size * JSON_S_PER_BYTE):
            return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise KwargsError(f"data: {path.name} is no JSON: {error}") from error


def read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    """Each line's place ("corpus.jsonl, line 3") and value; empty lines are skipped. KwargsError as `read_json`."""
    with path.open("rb") as lines:
        for number, line in enumerate(report_each(lines), start=1):
            if line.strip():
                place = f"{path.name}, line {number}"
                try:
                    yield place, json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise KwargsError(f"data: {place} is no JSON: {error}") from error


def checked(adapter: "TypeAdapter[T]", value: object, place: str) -> T:
    """`value` as the adapter's type; KwargsError names the place, the field, and what came."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise KwargsError(f"data: {place}: {where or 'record'}: {_in_words(problem)}") from error


def _in_words(problem: ErrorDetails) -> str:
    """The wanted value and the one that came; a validator's own ValueError speaks for itself."""
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return message
    if problem["type"] == "missing":
        return "want a value, none is given"
    return f"want {message.removeprefix('Input should be ')}, got {problem['input']!r:.80}"
