"""Parameters that many routes take, and the job that a path names."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

from fastapi import Depends, Header, Path, Query, Request

from services.api.http.app_parts import Parts
from services.api.jobs import queries as jobs
from services.api.rest.caller import Asking
from services.api.rest.problems import bad_spec
from services.api.sql.tables import JobRow

TEXT = r"^[^\x00]*$"
"""The texts that PostgreSQL can compare with."""

JobId = Annotated[str, Path(max_length=32, pattern=TEXT, description="Id of the job.", examples=["j1a2126c436f8acbfa"])]
CheckpointName = Annotated[str, Path(max_length=128, description="Name of the checkpoint.", examples=["final"])]
KEY_CHARACTERS = 255
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=KEY_CHARACTERS,
        description="Repeating it with the same request gives the first answer again, with 200; with another, 409.",
        examples=["3f1c7c0e-train-corner"],
    ),
]
Cursor = Annotated[str | None, Query(pattern=r"^j[0-9a-f]{1,31}$", description="`next_cursor` of the previous page.")]
PageLimit = Annotated[int, Query(ge=1, le=200, description="Largest number of entries on a page.")]


async def _found(job_id: JobId, parts: Parts, caller: Asking) -> JobRow:
    return await jobs.find(parts.database, caller, job_id)


FoundJob = Annotated[JobRow, Depends(_found)]
"""The job of the path, which is one of the caller's project; 404 otherwise."""


STREAM_ID = r"^[0-9]{1,18}-[0-9]{1,9}$"
AfterEvent = Annotated[
    str,
    Header(
        alias="Last-Event-ID",
        pattern=STREAM_ID,
        description="Continue after the event with this id.",
        examples=["1795605451797-0"],
    ),
]
"""Stream id after which a feed begins; `BEGINNING` when it is not given."""
BEGINNING = "0-0"


async def only_known_query(request: Request) -> None:
    """A filter whose name is misspelt must not answer with everything. Raises Problem 422."""
    operation = request.app.openapi()["paths"][request.scope["route"].path_format][request.method.lower()]
    known = sorted(one["name"] for one in operation.get("parameters", []) if one["in"] == "query")
    unknown = [(name, value) for name, value in request.query_params.items() if name not in known]
    if unknown:
        raise bad_spec([(name, _unknown_parameter(name, value, known)) for name, value in unknown])


def _unknown_parameter(name: str, value: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}" if known else "none is known here"
    return f"unknown parameter, got {value[:80]!r}; {meant}"
