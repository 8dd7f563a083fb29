"""The list of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.api.dashboard import live
from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Parts
from services.api.http.event_streams import never_stored
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
Field = Annotated[str, Query(max_length=64, pattern=TEXT)]
StateField = Literal[""] | JobState


@dataclass(frozen=True)
class Filter:
    """The fields of the filter form as they came; empty means any."""

    state: StateField = ""
    name: Field = ""
    environment: Field = ""
    advantage_estimator: Field = ""
    estimator: Field = ""
    """The same in links of version 0.1."""
    kind: Literal["", "training", "evaluation"] = ""

    @property
    def chosen_estimator(self) -> str:
        return self.advantage_estimator or self.estimator

    @property
    def wanted(self) -> JobFilter:
        kind: JobKind | None = self.kind or None
        state = self.state or None
        return JobFilter(state, self.name or None, self.environment or None, self.chosen_estimator or None, kind)


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


@router.get("/live", response_class=EventSourceResponse, dependencies=[Depends(never_stored)])
async def job_list_live(parts: Parts, caller: Asking, chosen: Chosen) -> AsyncIterator[ServerSentEvent]:
    """What changes in the first page of the list."""
    async with aclosing(live.list_updates(parts, caller, chosen.wanted, PAGE)) as updates:
        async for update in updates:
            yield update
