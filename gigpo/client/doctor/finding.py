"""The result of a check."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

State = Literal["ok", "warning", "bad"]


class Finding(BaseModel):
    """One thing that was looked at."""

    name: str
    state: State
    """`warning`: it works, with a limit; `bad`: jobs can't run."""
    what: str
    todo: str = ""
    """The remedy; empty: none is needed."""


def ok(name: str, what: str) -> Finding:
    return Finding(name=name, state="ok", what=what)


def warning(name: str, what: str, todo: str) -> Finding:
    return Finding(name=name, state="warning", what=what, todo=todo)


def bad(name: str, what: str, todo: str) -> Finding:
    return Finding(name=name, state="bad", what=what, todo=todo)
