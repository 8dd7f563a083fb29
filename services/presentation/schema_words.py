"""Describes an environment's kwargs schema in words, for people who fill in `environment_kwargs`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LONGEST_DEFAULT = 60
_BOUNDS = (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"), ("exclusiveMaximum", "below"))


@dataclass(frozen=True)
class KwargWords:
    """One key of an environment's kwargs."""

    name: str
    values: str
    """Allowed values: `integer from 1 to 12`, `furniture or corner`, `list of integer`."""
    default: str
    """JSON, cut after `LONGEST_DEFAULT` characters; empty: the key has to be given."""
    description: str


def kwargs_in_words(schema: Mapping[str, Any]) -> list[KwargWords]:
    """The keys of a JSON schema as pydantic writes it, those that have to be given first."""
    required = set(schema.get("required", ()))
    found = [
        KwargWords(
            name=name,
            values=values_in_words(one, schema),
            default="" if name in required else _short(json.dumps(one.get("default"), ensure_ascii=False)),
            description=one.get("description", ""),
        )
        for name, one in schema.get("properties", {}).items()
    ]
    return sorted(found, key=lambda one: one.default != "")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_DEFAULT else f"{text[: LONGEST_DEFAULT - 1]}…"


def values_in_words(one: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Values that a part of the schema takes: `integer from 1 to 12`; `schema` has its `$defs`."""
    if "$ref" in one:
        return values_in_words(schema["$defs"][one["$ref"].rsplit("/", 1)[-1]], schema)
    if "anyOf" in one:
        return " or ".join(values_in_words(choice, schema) for choice in one["anyOf"])
    if "enum" in one:
        return " or ".join(map(str, one["enum"]))
    if "const" in one:
        return str(one["const"])
    kind = one.get("type", "JSON")
    if kind == "array":
        return f"list of {values_in_words(one.get('items', {}), schema)}"
    if kind == "object" and "properties" in one:
        return f"object of {', '.join(one['properties'])}"
    return " ".join([kind, *(f"{word} {one[bound]:g}" for bound, word in _BOUNDS if bound in one)])
