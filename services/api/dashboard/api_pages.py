"""The OpenAPI document for a page: operations by tag, with their parameters and answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JSON = "application/json"


@dataclass(frozen=True)
class Parameter:
    """One value in the path, the query or a header."""

    name: str
    place: str
    required: bool
    about: str
    values: str
    """Its type, or what it may be."""


@dataclass(frozen=True)
class Answer:
    """An operation's answer with one status."""

    status: str
    about: str
    example: str
    """JSON; empty where there is none."""


@dataclass(frozen=True)
class Operation:
    """A method on a path."""

    id: str
    method: str
    path: str
    about: str
    parameters: Sequence[Parameter]
    body: str
    """An example as JSON; empty: it takes none."""
    answers: Sequence[Answer]

    @property
    def only_looks(self) -> bool:
        return self.method == "GET"

    @property
    def tried(self) -> Sequence[Parameter]:
        """The parameters that a form can ask for."""
        return [one for one in self.parameters if one.place in ("path", "query")]


@dataclass(frozen=True)
class Chapter:
    """The operations of a tag."""

    name: str
    about: str
    operations: Sequence[Operation]


def chapters(document: Mapping[str, Any]) -> list[Chapter]:
    """The document's operations in the order of its tags; those without a tag come last."""
    found: dict[str, list[Operation]] = {name: [] for name in (*(tag["name"] for tag in document["tags"]), "other")}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            (tag,) = operation.get("tags", ["other"])
            found[tag].append(_operation(method.upper(), path, operation))
    about = {tag["name"]: tag["description"] for tag in document["tags"]}
    return [Chapter(name, about.get(name, ""), operations) for name, operations in found.items() if operations]


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Operation:
    body = operation.get("requestBody", {}).get("content", {}).get(JSON, {})
    return Operation(
        id=operation["operationId"],
        method=method,
        path=path,
        about=operation.get("description") or operation.get("summary", ""),
        parameters=[_parameter(one) for one in operation.get("parameters", [])],
        body=_shown(body.get("example")),
        answers=list(_answers(operation["responses"])),
    )


def _parameter(one: Mapping[str, Any]) -> Parameter:
    schema = one.get("schema", {})
    about = one.get("description") or schema.get("description", "")
    return Parameter(one["name"], one["in"], one.get("required", False), about, _values(schema))


def _values(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return _values(next(one for one in schema["anyOf"] if one.get("type") != "null"))
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[1])
    default = f", default {json.dumps(schema['default'])}" if schema.get("default") is not None else ""
    return f"{schema.get('type', 'any')}{default}"


def _answers(responses: Mapping[str, Any]) -> Iterator[Answer]:
    for status, answer in sorted(responses.items()):
        examples = (content.get("example") for content in answer.get("content", {}).values())
        example = next((one for one in examples if one is not None), None)
        yield Answer(status, answer.get("description", ""), _shown(example))


def _shown(example: Any) -> str:
    if example is None or isinstance(example, str):
        return example or ""
    return json.dumps(example, indent=2, ensure_ascii=False)
