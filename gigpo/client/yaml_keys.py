"""YAML of job files: a repeated key is an error, and `${VAR}` stands for an environment variable."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml

_VARIABLE = re.compile(r"\$\$(?=\{)|\$\{([^}]*)\}")
_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class BadYaml(ValueError):
    """The document means nothing for certain; the message names the line."""


class KeyTwice(BadYaml):
    """A mapping has the same key twice; the message names the key and both lines."""


class BadVariable(BadYaml):
    """`${...}` names a variable that is not set, or none; the message says which."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses repeated keys."""

    variables: Mapping[str, str] | None = None
    """The value that `${VAR}` stands for; None: itself."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                first = lines[key.value]
                raise KeyTwice(f"line {line}: the key {key.value!r} repeats the one on line {first}; want it once")
            lines[key.value] = line
        return super().construct_mapping(node, deep)

    def compose_scalar_node(self, anchor: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if self.variables is not None:  # this runs before its type is found: an unquoted `${SEED}` is a number
            event.value = _with_variables(event.value, self.variables, event.start_mark.line + 1)
        return super().compose_scalar_node(anchor)


def load_yaml(text: str, variables: Mapping[str, str] | None = None) -> Any:
    """The document in a YAML text.

    Args:
        variables: `${VAR}` in a value is the variable, `${VAR:-default}` the default where it is not set or empty, and
            `$${` is `${`. None: nothing is replaced.

    Raises:
        BadYaml, yaml.YAMLError.
    """
    loader = _Loader(text)
    loader.variables = variables
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _with_variables(value: str, variables: Mapping[str, str], line: int) -> str:
    def replaced(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        reference = _REFERENCE.fullmatch(found[1])
        if reference is None:
            raise BadVariable(f"line {line}: want ${{NAME}} or ${{NAME:-default}}, got {found[0]}; $${{ is a plain ${{")
        name, default = reference[1], reference[2]
        if default is not None:
            return variables.get(name) or default
        if name not in variables:
            raise BadVariable(f"line {line}: {name} is not set; set it, or give a default as ${{{name}:-default}}")
        return variables[name]

    return _VARIABLE.sub(replaced, value)
