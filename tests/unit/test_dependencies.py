"""Every installation uses what it brings."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@cache
def imported() -> set[str]:
    """The distributions whose modules our code imports, wherever the import stands; names in lower case, with -."""
    tops: set[str] = set()
    for room in ("gigpo", "gigpo_core", "services"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    tops |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    tops.add(node.module.partition(".")[0])
    homes = packages_distributions()
    return {home.lower().replace("_", "-") for top in tops for home in homes.get(top, ())}


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_what_every_installation_requires_is_imported(requirement: str):
    assert re.split(r"[\[<>=!~; ]", requirement)[0].lower() in imported()
