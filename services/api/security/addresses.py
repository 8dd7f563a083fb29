"""Checks where a job's model and data come from: folders that the operator has opened, never a network address."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from services.api.rest.caller import Caller
from services.contracts.job import JobSpec

_ADDRESS = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?[/\\]{2}", re.IGNORECASE)
"""`scheme://...`, and what a file system or a library may take for another machine: `//host`, `\\\\host`."""
_PATH = re.compile(r"\s*(?:[/\\~]|[a-z]:[/\\])|.*(?:^|[/\\])\.\.(?:[/\\]|$)", re.IGNORECASE | re.DOTALL)

_NO_DATA_FORMATS = frozenset({"uri", "text"})
"""`uri`: an address that the environment's operator has to allow; `text`: words that nothing is opened by."""
_SHOWN = 200
"""Characters of what came that an error repeats."""

Problems = list[tuple[str, str]]


def open_folders(caller: Caller, roots: Sequence[Path]) -> Sequence[Path] | None:
    """The folders that the caller's models and data may lie in; None: any."""
    return None if caller.trusted and not roots else roots


def model_problem(model: str, roots: Sequence[Path] | None) -> str | None:
    """Why this model may not be loaded; None: it may.

    Args:
        roots: folders that models may lie in, with everything that links in them lead to; None: any folder.
    """
    if _ADDRESS.match(model):
        return f"want a folder of this installation, got the address {model[:_SHOWN]!r}"
    if "\0" in model or not Path(model).is_absolute():
        return f"want an absolute path of a folder or job:<job id>/<checkpoint>, got {model[:_SHOWN]!r}"
    if roots is None:
        return None
    real = [root.resolve() for root in roots]
    if not all(_inside(path, real) for path in (Path(model), *_files(Path(model), real))):
        shown = ", ".join(map(str, roots)) or "none is set, see API_MODEL_ROOTS"
        return f"want a folder in one of the model roots ({shown}), got {model[:_SHOWN]!r}"
    return None


def data_problems(spec: JobSpec, roots: Sequence[Path] | None, schema: Mapping[str, JsonValue]) -> Problems:
    """Targets that an environment may not be pointed at: addresses, and folders outside of the model roots.

    Args:
        schema: JSON schema of the environment's kwargs; properties of the `_NO_DATA_FORMATS` are let through.
    """
    sections = {"environment.environment_kwargs": spec.environment.environment_kwargs}
    sections |= {f"environment.environment_rows.{at}": row for at, row in enumerate(spec.environment.environment_rows)}
    if warmstart := spec.model.warmstart:
        sections["model.warmstart.warmstart_environment_kwargs"] = warmstart.warmstart_environment_kwargs
    properties = schema.get("properties")
    texts = [
        text
        for section, kwargs in sections.items()
        for name, value in kwargs.items()
        if _format(properties, name) not in _NO_DATA_FORMATS
        for text in _strings(f"{section}.{name}", value)
    ]
    found: Problems = []
    for path, text in texts:
        if _ADDRESS.match(text):
            found.append((path, f"want data of this installation, got the address {text[:_SHOWN]!r}"))
        elif roots is not None and _PATH.match(text) and not _inside(Path(text), [root.resolve() for root in roots]):
            found.append((path, f"want a path in one of the model roots, got {text[:_SHOWN]!r}"))
    return found


def _format(properties: JsonValue, name: str) -> JsonValue:
    """The `format` that a JSON schema's properties give one of them; None: they give none."""
    found = properties.get(name) if isinstance(properties, dict) else None
    return found.get("format") if isinstance(found, dict) else None


def _files(folder: Path, roots: Sequence[Path]) -> Iterator[Path]:
    if _inside(folder, roots) and os.path.isdir(folder):  # a name too long: False
        yield from folder.iterdir()


def _inside(path: Path, roots: Sequence[Path]) -> bool:
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, a NUL
        return False
    return path.is_absolute() and any(real.is_relative_to(root) for root in roots)


def _strings(field: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _strings(f"{field}.{name}", inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _strings(f"{field}.{number}", inner)
