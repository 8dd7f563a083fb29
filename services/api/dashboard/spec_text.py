"""A spec as text: the editor's initial spec, and the line of a field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import yaml

DEFAULT_SPEC = files("services.contracts").joinpath("default.yaml").read_text()


@dataclass(frozen=True)
class FieldProblem:
    """A problem with one field of a text."""

    field: str
    message: str
    line: int | None
    """Counted from 1; None: the field is not in the text."""


def as_text(spec: Mapping[str, object]) -> str:
    """A spec as YAML, its sections in the order that the model has them."""
    return yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True)


def yaml_problem(error: yaml.YAMLError) -> FieldProblem:
    """Why a text is no YAML, and where."""
    mark = getattr(error, "problem_mark", None)
    sentence = getattr(error, "problem", None) or str(error)
    return FieldProblem("", f"want YAML: {sentence}", mark.line + 1 if mark else None)


def field_problems(text: str, problems: Sequence[tuple[str, str]]) -> list[FieldProblem]:
    """The problems with the lines that they are about."""
    return [FieldProblem(field, message, line_of(text, field)) for field, message in problems]


def line_of(text: str, field: str) -> int | None:
    """Line of a dotted field, or of the nearest section around it that the text has; None: it has neither."""
    node, line = yaml.compose(text, yaml.SafeLoader), None
    for part in field.split("."):
        if not isinstance(node, yaml.MappingNode):
            break
        found = next(((key, value) for key, value in node.value if key.value == part), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line
