"""Who asks. What is theirs is one project; everything else does not exist for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

DEFAULT_PROJECT = "default"
"""The project of everybody on an installation without keys, and of jobs that are older than projects."""


@dataclass(frozen=True)
class Caller:
    """The project that a request speaks for."""

    project_id: str = DEFAULT_PROJECT


async def _of_request(request: Request) -> Caller:  # a plain function would be sent to a thread
    return cast(Caller, getattr(request.state, "caller", None) or Caller())


Asking = Annotated[Caller, Depends(_of_request)]
"""The caller of a request: `request.state.caller`, where the guard put it."""
