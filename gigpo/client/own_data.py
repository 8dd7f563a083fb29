"""Files that a job names: found beside the job file, or where the command runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from gigpo.client.errors import BadInput
from gigpo.client.models import JsonObject
from services.contracts.user_files import SCHEME, split_function

DATASET = "dataset"
"""The flag that names a file or folder of prompts."""
PLACE = ("environment", "environment_kwargs", "data")
_LARGEST = 4 << 20
"""Bytes of a job file or a script."""
_BESIDE = re.compile(r"(?:~|\.{1,2}|)/|.*\.(?:jsonl|ndjson|json|csv|tsv|parquet|arrow)(?:\.gz)?$", re.DOTALL)
"""How data begins, or ends, that is no folder below the environment service's data root."""


def text_of(path: Path) -> str:
    """The text of a job file or a script.

    Raises:
        BadInput: it is longer than any of them, as a device is that never ends.
        OSError, UnicodeDecodeError: as of `Path.read_text`.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise BadInput(f"{path}: want a text of at most {_LARGEST >> 20} MiB, got a longer one")
    return content.decode()


def with_found_files(document: Mapping[str, JsonValue], folder: Path) -> JsonObject:
    """The document with absolute paths of its data and of files with reward functions, which lie relative to `folder`.

    Raises:
        BadInput: there is no such file.
    """
    changed = dict(document)
    rewards, environment = changed.get("rewards"), changed.get("environment")
    if isinstance(rewards, dict) and (names := _names(rewards.get("reward_funcs"))):
        changed["rewards"] = {**rewards, "reward_funcs": [_function(name, folder) for name in names]}
    if isinstance(environment, dict):
        section = _with_found_kwargs(environment, "environment", folder)
        if isinstance(members := section.get("mixture"), list):
            section["mixture"] = _each(members, "environment.mixture", folder, _with_found_kwargs)
        changed["environment"] = section
    return changed


def _with_found_kwargs(section: Mapping[str, JsonValue], field: str, folder: Path) -> JsonObject:
    """The section, or a member of its mixture, with absolute paths in its kwargs and their rows."""
    changed = dict(section)
    if isinstance(kwargs := section.get("environment_kwargs"), dict):
        changed["environment_kwargs"] = _with_found_sets(kwargs, f"{field}.environment_kwargs", folder)
    if isinstance(rows := section.get("environment_rows"), list):
        changed["environment_rows"] = _each(rows, f"{field}.environment_rows", folder, _with_found_sets)
    return changed


def _with_found_sets(kwargs: Mapping[str, JsonValue], field: str, folder: Path) -> JsonObject:
    told = _with_found(kwargs, field, folder)
    if isinstance(sets := told.get("sets"), list):
        told["sets"] = _each(sets, f"{field}.sets", folder, _with_found)
    return told


def _each(
    entries: Sequence[JsonValue], field: str, folder: Path, find: Callable[[JsonObject, str, Path], JsonObject]
) -> list[JsonValue]:
    """The entries as `find` makes them; what is no object stays, and is refused later."""
    return [find(one, f"{field}.{at}", folder) if isinstance(one, dict) else one for at, one in enumerate(entries)]


def _with_found(kwargs: Mapping[str, JsonValue], field: str, folder: Path) -> JsonObject:
    """The entries that name data, with absolute paths."""
    data = kwargs.get("data")
    if isinstance(data, str) and _BESIDE.match(data) and not data.startswith(SCHEME):
        return {**kwargs, "data": _found(data, f"{field}.data", folder)}
    return dict(kwargs)


def dataset(name: str) -> str:
    """The absolute path that `--dataset` names. BadInput: there is none."""
    return _found(name, "--dataset", Path())


def _names(value: JsonValue) -> list[JsonValue]:
    if isinstance(value, str):
        return [name for name in re.split(r"[,\s]+", value.strip()) if name]
    return list(value) if isinstance(value, list) else []


def _function(name: JsonValue, folder: Path) -> JsonValue:
    if not isinstance(name, str) or name.startswith(SCHEME):
        return name
    if name.endswith(".py"):
        raise BadInput(f"rewards.reward_funcs: want the function too, {name}:FUNCTION")
    if (parts := split_function(name)) is None:
        if ":" in name:
            raise BadInput(f"rewards.reward_funcs: want FILE.py:FUNCTION, or the name of a function, got {name!r}")
        return name
    return f"{_found(parts[0], 'rewards.reward_funcs', folder)}:{parts[1]}"


def _found(name: str, field: str, folder: Path) -> str:
    if not name.strip():
        raise BadInput(f"{field}: want a file or a folder, got {name!r}")
    path = folder.absolute() / Path(name).expanduser()
    if not path.exists():
        raise BadInput(f"{field}: no such file: {name}")
    return str(path.resolve())
