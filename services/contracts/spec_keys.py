"""Keys of a spec: where each leaf lies, the short forms of sections, and what a key that is unknown was meant to be."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, JsonValue
from pydantic_core import ErrorDetails

from services.contracts.foreign import foreign_name
from services.contracts.plain_errors import in_words, meant, shown
from services.contracts.section import Section, section_of


def leaf_paths(spec: type[Section]) -> dict[str, tuple[str, ...]]:
    """Every leaf's name -> its path in the spec."""
    return dict(_leaves(spec, ()))


def _leaves(section: type[BaseModel], path: tuple[str, ...]) -> list[tuple[str, tuple[str, ...]]]:
    found: list[tuple[str, tuple[str, ...]]] = []
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        found += _leaves(inner, (*path, name)) if inner else [(name, (*path, name))]
    return found


_SHORT_FORMS = {"model": "model", "environment": "environment"}
"""Section -> its key that a text in its place stands for: `model: PATH`, `environment: ID`."""


def without_short_forms(document: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The document with `model: PATH` and `environment: ID` written out as sections."""
    short: dict[str, JsonValue] = {
        name: {key: document[name]} for name, key in _SHORT_FORMS.items() if isinstance(document.get(name), str)
    }
    return {**document, **short}


def told(spec: type[Section], problem: ErrorDetails) -> tuple[str, str]:
    """(field, sentence) for a problem that pydantic found in a document of this spec."""
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return field, _unknown_key(spec, [str(part) for part in problem["loc"]], problem["input"])
    return field, in_words(problem)


def _unknown_key(spec: type[Section], path: list[str], value: object) -> str:
    section: type[BaseModel] | None = spec
    for part in path[:-1]:
        found = section.model_fields.get(part) if section else None
        section = section_of(found.annotation) if found else None
    known = {name: ".".join(place) for name, place in leaf_paths(spec).items()}
    right = _OFTEN_MEANT.get(".".join(path)) or known.get(path[-1])
    row = None if right else foreign_name(path[-1]) or foreign_name(".".join(path))
    if row is not None:
        mapping, dot, inner = (row.ours or "").partition(".")
        place = f"{known[mapping]}{dot}{inner}" if mapping in known else f"--{row.ours}"
        return f"unknown key, got {shown(value)}; {row.told(place)}"
    hint = f"; did you mean {right}?" if right else meant(path[-1], section.model_fields if section else [])
    return f"unknown key, got {shown(value)}{hint or '; `gigpo train --help` lists the known ones'}"


_OFTEN_MEANT = {
    "environment.id": "environment.environment",
    "environment.name": "environment.environment",
    "environment.env": "environment.environment",
    "environment.kwargs": "environment.environment_kwargs",
    "environment.options": "environment.environment_kwargs",
    "environment.settings": "environment.environment_kwargs",
    "model.path": "model.model",
    "model.name": "model.model",
    "model.id": "model.model",
    "model.folder": "model.model",
    "env": "environment",
    "environment.system_prompt": "environment.system",
    "rewards.functions": "rewards.reward_funcs",
}
"""A path that reads well and is wrong -> the right one."""
