"""Checks the tools that an environment has for its agent."""

import json
import re
from collections.abc import Mapping
from typing import Any

from services.env.workers.wanted import ContractError, came, named, text

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""Arguments that every model's format of calls can write."""
_KEYS = frozenset({"name", "description", "parameters"})
MAX_TOOLS = 128


def tools_json(value: Any) -> str:
    """A list of tools as JSON; empty for none. ContractError names what is no tool."""
    if not isinstance(value, list | tuple):
        raise ContractError(f"tools: want a list of tools, got {came(value)}")
    if len(value) > MAX_TOOLS:
        raise ContractError(f"tools: want at most {MAX_TOOLS}, got {len(value)}")
    tools = [_tool(f"tools[{place}]", tool) for place, tool in enumerate(value)]
    names = [tool["name"] for tool in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ContractError(f"tools: want different names, got {twice} twice")
    return _json(tools) if tools else ""


def _tool(field: str, tool: object) -> dict[str, object]:
    """One tool, in today's order of keys."""
    if not isinstance(tool, Mapping):
        raise ContractError(f"{field}: want an object with name, description and parameters, got {came(tool)}")
    if unknown := sorted(str(key) for key in tool.keys() - _KEYS):
        raise ContractError(f"{field}: want name, description and parameters alone, got {unknown[0]}")
    name = text(f"{field}.name", tool.get("name"))
    if not _NAME.fullmatch(name):
        raise ContractError(f"{field}.name: want up to 64 letters, digits, _, . and -, got {came(name)}")
    parameters = tool.get("parameters", {"type": "object", "properties": {}})
    if not isinstance(parameters, Mapping) or parameters.get("type") != "object":
        raise ContractError(f"{field}.parameters: want a JSON Schema of type object, got {came(parameters)}")
    return {
        "name": name,
        "description": text(f"{field}.description", tool.get("description", "")),
        "parameters": dict(parameters),
    }


def _json(tools: list[dict[str, object]]) -> str:
    try:
        return json.dumps(tools, ensure_ascii=False, allow_nan=False).encode().decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ContractError(f"tools: want values of JSON, but {named(error)}") from error
