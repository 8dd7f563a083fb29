"""Parameters that many routes take, and the job that a path names."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Path, Query

from services.api import jobs
from services.api.caller import Asking
from services.api.container import Parts
from services.api.problems import Problem
from services.api.stream_ids import stream_position
from services.api.tables import JobRow

TEXT = r"^[^\x00]*$"
"""What PostgreSQL can compare with."""

JobId = Annotated[str, Path(max_length=32, pattern=TEXT, description="Id of the job.", examples=["j0193f2c4d5e6a1b2c"])]
CheckpointName = Annotated[str, Path(max_length=128, description="Name of the checkpoint.", examples=["final"])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Repeating it with the same request gives the first answer again, with 200; with another, 409.",
        examples=["3f1c7c0e-train-corner"],
    ),
]
Cursor = Annotated[str | None, Query(max_length=32, pattern=TEXT, description="`next_cursor` of the page before.")]
PageLimit = Annotated[int, Query(ge=1, le=200, description="Most entries of one page.")]
Offset = Annotated[int, Query(ge=0, le=1 << 31)]


async def _found(job_id: JobId, parts: Parts, caller: Asking) -> JobRow:
    return await jobs.find(parts.database, caller, job_id)


FoundJob = Annotated[JobRow, Depends(_found)]
"""The job of the path, which is one of the caller's project; 404 otherwise."""


async def _after(
    last_event_id: Annotated[
        str | None, Header(max_length=64, description="Go on after the event of this id.", examples=["1764057600000-0"])
    ] = None,
) -> str:
    try:
        stream_position(last_event_id or "0-0")
    except ValueError as error:
        raise Problem(422, f"Last-Event-ID: {error}", errors=[("Last-Event-ID", str(error))]) from error
    return last_event_id or "0-0"


AfterEvent = Annotated[str, Depends(_after)]
"""Stream id after which a feed begins: `Last-Event-ID`, else the beginning."""
