"""Tools as agents see and call them: a list in words, and one call as JSON, {"name": ..., "arguments": {...}}."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import JsonValue

FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
HOW_TO_CALL = 'Answer with one call of a tool, as JSON: {"name": "...", "arguments": {...}}'


@dataclass(frozen=True)
class Tool:
    """One tool: its name, what it does, and the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def schema(self) -> dict[str, JsonValue]:
        """The tool's schema as chat templates and the platform's description of an environment take it."""
        return {"name": self.name, "description": self.description, "parameters": {"type": "object", **self.parameters}}

    def __str__(self) -> str:
        properties = self.parameters.get("properties") or {}
        wanted = self.parameters.get("required") or ()
        parts = [_argument(name, about, needed=name in wanted) for name, about in properties.items()]
        return f"{self.name}({', '.join(parts)}): {' '.join(self.description.split())}"


@dataclass(frozen=True)
class Call:
    """An agent's call of a tool."""

    name: str
    arguments: dict[str, Any]


def one_text(name: str) -> dict[str, Any]:
    """The schema of arguments that are one text."""
    return {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}


ANSWER = Tool("answer", "Give the answer.", one_text("answer"))
"""The call that ends a question's episode."""


def listed(tools: Sequence[Tool]) -> str:
    """The tools in words, one a line, and how they are called."""
    return "\n".join(["Tools:", *(f"- {tool}" for tool in tools), HOW_TO_CALL])


def parsed_call(words: str, names: Sequence[str]) -> Call | str:
    """The call in an action; a sentence for the agent where it is none. A fence of Markdown round it is no matter."""
    value = json_of(words)
    if not isinstance(value, dict):
        return f"This is no call of a tool. {HOW_TO_CALL}"
    name, arguments = value.get("name"), value.get("arguments", {})
    if name not in names:
        return f"There is no tool {json.dumps(name)}; there are: {', '.join(names)}"
    if not isinstance(arguments, dict):
        return f"arguments: want an object, got {json.dumps(arguments)[:80]}"
    return Call(str(name), arguments)


def json_of(words: str) -> Any:
    """The value that words stand for as JSON, also inside a fence of Markdown; None where they are none."""
    fenced = FENCED.fullmatch(words.strip())
    try:
        return json.loads(fenced[1] if fenced else words, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _argument(name: str, about: object, *, needed: bool) -> str:
    about = about if isinstance(about, Mapping) else {}
    kinds = about.get("enum") or about.get("type") or "any"
    shown = "|".join(str(kind) for kind in kinds) if isinstance(kinds, list) else str(kinds)
    return f"{name}: {shown}" + ("" if needed else ", optional")
