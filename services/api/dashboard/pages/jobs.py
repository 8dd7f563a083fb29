"""The list of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.api.dashboard import live
from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Parts
from services.api.http.event_streams import never_stored
from services.api.http.routes.parameters import TEXT
from services.api.jobs.job_view import job_view
from services.api.jobs.listing import JobList, Order, listed
from services.api.jobs.progress import progress_of
from services.api.jobs.queries import JobFilter
from services.api.rest.caller import Asking
from services.contracts.algorithm import estimator_summaries
from services.contracts.rest.jobs import JobKind
from services.contracts.states import JobState

router = APIRouter(route_class=PageRoute, include_in_schema=False)

PAGE = 50
Field = Annotated[str, Query(max_length=64, pattern=TEXT)]
StateField = Literal[""] | JobState
_ARCHIVED: dict[str, bool | None] = {"": False, "yes": True, "any": None}


@dataclass(frozen=True)
class Filter:
    """The fields of the filter form as they came; empty means any, or the newest first."""

    search: Field = ""
    state: StateField = ""
    environment: Field = ""
    advantage_estimator: Field = ""
    estimator: Field = ""
    """The same in links of version 0.1."""
    kind: Literal["", "training", "evaluation"] = ""
    tag: Field = ""
    archived: Literal["", "yes", "any"] = ""
    order: Order = "created"
    descending: bool = True
    offset: Annotated[int, Query(ge=0, le=1 << 31)] = 0

    @property
    def chosen_estimator(self) -> str:
        return self.advantage_estimator or self.estimator

    @property
    def asked(self) -> JobList:
        kind: JobKind | None = self.kind or None
        wanted = JobFilter(
            state=JobState(self.state) if self.state else None,
            environment=self.environment or None,
            advantage_estimator=self.chosen_estimator or None,
            kind=kind,
            tag=self.tag or None,
            archived=_ARCHIVED[self.archived],
        )
        return JobList(wanted, self.search, self.order, self.descending, self.offset, PAGE)

    def query(self, **other: Any) -> str:
        """This filter as a query, with other fields; those that say nothing are left out."""
        fields = {**asdict(self), **other}
        return urlencode({name: value for name, value in fields.items() if value != getattr(Filter, name)})

    def sorted_by(self, order: str) -> str:
        """The query of this list in another order: the other way round where it has it already."""
        first = order not in ("name", "environment", "state", "seed")  # the largest first, but words from a to z
        descending = not self.descending if order == self.order else first
        return self.query(order=order, descending=descending, offset=0)

    @property
    def narrowed(self) -> bool:
        """Whether some jobs are left out that a plain list has."""
        return bool(self.query(order="created", descending=True, offset=0))


Chosen = Annotated[Filter, Depends()]


@router.get("/")
async def job_list(request: Request, parts: Parts, caller: Asking, chosen: Chosen) -> Response:
    """Jobs, newest first or in the order of a column."""
    found = await listed(parts.database, caller, chosen.asked)
    return await page(
        request,
        "jobs.html",
        jobs=[job_view(row) for row in found.rows],
        progress=await progress_of(parts.database, found.rows),
        chosen=chosen,
        total=found.total,
        limit=PAGE,
        states=[one.value for one in JobState],
        estimators=tuple(estimator_summaries()),
    )


@router.get("/jobs")
async def short_of_a_job() -> RedirectResponse:
    """Answers the address of a job without the job's id: it leads to the list."""
    return RedirectResponse("/", 307)


@router.get("/live", response_class=EventSourceResponse, dependencies=[Depends(never_stored)])
async def job_list_live(parts: Parts, caller: Asking, chosen: Chosen) -> AsyncIterator[ServerSentEvent]:
    """The changes in this page of the list."""
    async with aclosing(live.list_updates(parts, caller, chosen.asked)) as updates:
        async for update in updates:
            yield update
