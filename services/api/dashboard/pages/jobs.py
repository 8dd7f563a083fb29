"""The list of jobs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from services.api.dashboard import live
from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Parts
from services.api.http.routes.parameters import TEXT, Cursor
from services.api.jobs import queries as jobs
from services.api.jobs.job_view import job_view
from services.api.jobs.queries import JobFilter
from services.api.rest.caller import Asking
from services.contracts.algorithm import estimator_summaries
from services.contracts.rest.jobs import JobKind
from services.contracts.states import JobState

router = APIRouter(route_class=PageRoute, include_in_schema=False)

PAGE = 50
EVENT_STREAM = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
Field = Annotated[str, Query(max_length=64, pattern=TEXT)]
StateField = Literal["", "PENDING", "QUEUED", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"]


@dataclass(frozen=True)
class Filter:
    """The fields of the filter form as they came; empty means any."""

    state: StateField = ""
    name: Field = ""
    environment: Field = ""
    estimator: Field = ""
    kind: Literal["", "training", "evaluation"] = ""

    @property
    def wanted(self) -> JobFilter:
        kind: JobKind | None = self.kind or None
        state = JobState(self.state) if self.state else None
        return JobFilter(state, self.name or None, self.environment or None, self.estimator or None, kind)


Chosen = Annotated[Filter, Depends()]


@router.get("/")
async def job_list(
    request: Request,
    parts: Parts,
    caller: Asking,
    chosen: Chosen,
    cursor: Cursor = None,
) -> Response:
    """Jobs, newest first."""
    rows = await jobs.page(parts.database, caller, chosen.wanted, limit=PAGE + 1, cursor=cursor)
    fields = {name: value for name, value in asdict(chosen).items() if value}
    return await page(
        request,
        "jobs.html",
        jobs=[job_view(row) for row in rows[:PAGE]],
        chosen=chosen,
        query=urlencode(fields),
        states=[one.value for one in JobState],
        estimators=tuple(estimator_summaries()),
        cursor=cursor,
        next_cursor=rows[PAGE - 1].id if len(rows) > PAGE else None,
    )


@router.get("/jobs")
async def short_of_a_job() -> RedirectResponse:
    """Where somebody arrives who cuts the end off a job's address."""
    return RedirectResponse("/", 307)


@router.get("/live")
async def job_list_live(parts: Parts, caller: Asking, chosen: Chosen) -> StreamingResponse:
    """What changes in the first page of the list."""
    updates = live.list_updates(parts, caller, chosen.wanted, PAGE)
    return StreamingResponse(updates, media_type="text/event-stream", headers=EVENT_STREAM)
