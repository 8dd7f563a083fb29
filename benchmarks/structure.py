"""Counts of the code's structure: python -m benchmarks.structure [--json]

Nothing here is a measure of quality by itself. The counts show whether one fact stays in one place: how many classes
carry a sampled answer or an observation, how many source files name one thing of a kind, how much is typed as `Any`.
Generated code (`proto/`, the synchronous client), data and tests are not source.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("gigpo", "gigpo_core", "services")
GENERATED = {"__pycache__", "synchronous"}

SHAPES: dict[str, tuple[set[str], ...]] = {
    "a sampled answer": ({"logprobs", "rollout_logprobs"}, {"versions", "version", "spans"}),
    "an observation": ({"anchor", "anchor_key"}, {"admissible_actions"}),
}
"""Shape -> sets of field names; a class that has a field of each set carries it."""

TASKS = {
    "a field of a sampled token (finish_reason)": r"\bfinish_reason\b",
    "a step estimator (graphgpo)": r"graphgpo",
    "a loss (sapo)": r"\bsapo\b",
    "a metric of the advantage service (aliased_anchor)": r"aliased_anchor",
    "a metric of the learner (clip_fraction)": r"clip_fraction",
}
"""Something that exists once of its kind -> the pattern that names it. A new one touches about as many files."""


def sources(*packages: str) -> Iterator[Path]:
    """Python files of the packages, generated and installed code left out."""
    for package in packages or PACKAGES:
        yield from (path for path in sorted((ROOT / package).rglob("*.py")) if not GENERATED & set(path.parts))


def lines(paths: Iterator[Path]) -> int:
    """Lines of all files together."""
    return sum(len(path.read_text().splitlines()) for path in paths)


def fields_of(node: ast.ClassDef) -> set[str]:
    """Names of the annotated fields of a class."""
    return {
        part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    }


def classes_with(wanted: tuple[set[str], ...]) -> list[str]:
    """`file:Class` of every class that has a field of each of the sets."""
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and all(fields_of(node) & names for names in wanted):
                found.append(f"{path.relative_to(ROOT)}:{node.name}")
    return found


def files_naming(pattern: str) -> list[str]:
    """Source files that name the pattern."""
    return [str(path.relative_to(ROOT)) for path in sources() if re.search(pattern, path.read_text())]


def any_per_thousand_lines(*packages: str) -> float:
    """Uses of `Any` in annotations and casts per 1,000 lines, imports not counted."""
    uses = sum(
        isinstance(node, ast.Name) and node.id == "Any"
        for path in sources(*packages)
        for node in ast.walk(ast.parse(path.read_text()))
    )
    return 1000 * uses / lines(sources(*packages))


def function_lengths() -> list[int]:
    """Lines of every function, sorted."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kinds)
    )


def test_lines_per_source_line(source: str, *tests: str) -> float:
    """Lines of the tests' folders per line of the source's."""
    return lines(sources(*tests)) / lines(sources(source))


def client_lines_per_call() -> float:
    """Lines of the client's hand-written calls, with what they stand on, per public call."""
    calls = list(sources("gigpo/client/asynchronous"))
    below = [*sources("gigpo/client/http"), ROOT / "gigpo/client/models.py"]
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    public = sum(
        isinstance(part, kinds) and not part.name.startswith("_")
        for path in calls
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
        for part in node.body
    )
    return lines(iter([*calls, *below])) / public


def counts() -> dict[str, float | int | list[str]]:
    """Every count by its name; a list is of places."""
    lengths = function_lengths()
    return {
        **{f"shapes of {name}": classes_with(wanted) for name, wanted in SHAPES.items()},
        **{f"files that name {task}": files_naming(pattern) for task, pattern in TASKS.items()},
        "Any per 1,000 lines": round(any_per_thousand_lines(), 1),
        **{f"Any per 1,000 lines of {package}": round(any_per_thousand_lines(package), 1) for package in PACKAGES},
        "test lines per source line of gigpo/client": round(
            test_lines_per_source_line("gigpo/client", "tests/unit/client", "tests/integration/client"), 2
        ),
        "lines of gigpo/client": lines(sources("gigpo/client")),
        "lines of gigpo/client per call": round(client_lines_per_call(), 1),
        "source lines": lines(sources()),
        "source files": sum(1 for _ in sources()),
        "function lines, median": lengths[len(lengths) // 2],
        "function lines, 90th percentile": lengths[len(lengths) * 9 // 10],
        "function lines, longest": lengths[-1],
    }


def main() -> None:
    """Print the counts, as a table or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON document, places included")
    found = counts()
    if parser.parse_args().json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        print(f"{len(value) if isinstance(value, list) else value:>8}  {name}")


if __name__ == "__main__":
    main()
