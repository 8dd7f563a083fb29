"""YAML in which a repeated key is an error; otherwise one of its two values would be lost silently."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml


class KeyTwice(ValueError):
    """A mapping has the same key twice; the message names the key and both lines."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                first = lines[key.value]
                raise KeyTwice(f"line {line}: the key {key.value!r} repeats the one on line {first}; want it once")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """The document in a YAML text. Raises KeyTwice, yaml.YAMLError."""
    return yaml.load(text, _Loader)
