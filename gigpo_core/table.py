"""The options as the table of docs/algorithms.md: python -m gigpo_core.table"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Literal, get_args, get_origin

from gigpo_core.algorithms import ESTIMATORS, LOSSES, Row
from gigpo_core.options import Option
from gigpo_core.sections import job_options


def markdown() -> str:
    """One row an option of the section `algorithm`: name, values, default of a job, the estimators and losses that use
    it, meaning."""
    head = "| option | values | default | heeded by | meaning |\n|---|---|---|---|---|"
    return "\n".join([head, *map(_row, job_options())]) + "\n"


def _row(option: Option) -> str:
    default = option.default if option.jobs.default is ... else option.jobs.default
    cells = (f"`{option.name}`", _values(option), _plain(default), _heeding(option.name), _meaning(option))
    return f"| {' | '.join(cells)} |"


def _meaning(option: Option) -> str:
    wanted = [f"Only with {beside.wanted.rstrip(',')}." for beside in option.beside]
    return " ".join([*([option.doc] if option.doc else []), *wanted])


def _values(option: Option) -> str:
    tables: dict[str, Mapping[str, Row]] = {"advantage_estimator": ESTIMATORS, "loss_type": LOSSES}
    if option.name in tables:
        return ", ".join(tables[option.name])
    words = _words(option.type)
    bounds = option.jobs.bounds or option.bounds
    return words if bounds is None else f"{words} {bounds}"


def _words(kind: object) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if alternatives := get_args(kind):
        return " or ".join(map(_words, sorted(alternatives, key=lambda one: one is not type(None))))
    words: dict[object, str] = {bool: "true, false", float: "number", int: "integer", str: "text"}
    return words.get(kind, "null")


def _heeding(option: str) -> str:
    rows = [*ESTIMATORS.items(), *LOSSES.items()]
    return ", ".join(name for name, row in rows if row.has(option)) or "all"


def _plain(value: object) -> str:
    return (
        {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else f"{value}"
    )


if __name__ == "__main__":
    sys.stdout.write(markdown())
