"""The feed of a job: events as a stream, metrics and evaluations as tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import JsonValue

from services.api.http.app_parts import Parts
from services.api.http.event_streams import AcceptsStream, event_stream, never_stored, stream_content
from services.api.http.routes.collections import Wanted
from services.api.http.routes.parameters import BEGINNING, STREAM_ID, AfterEvent, FoundJob
from services.api.rest.problems import responses
from services.api.sync import feed
from services.contracts.events import Kind
from services.contracts.rest.evaluations import EvaluationResultPage
from services.contracts.rest.events import EventPage, JobEvent, MetricsPage
from services.contracts.summary import EvaluationResult

PREFIX = "/v1/jobs/{job_id}"
router = APIRouter(prefix=PREFIX, tags=["feed"])

_STREAM = {"content": stream_content("EventBody")}


@router.get(
    "/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(never_stored)],
    responses={**responses(404, 422), 200: _STREAM},
)
async def follow_events(
    job: FoundJob,
    parts: Parts,
    after: AfterEvent = BEGINNING,
    follow: Annotated[bool, Query(description="False: the stream ends after the newest event.")] = True,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events from the beginning, or from after `Last-Event-ID`; the stream ends after the job's last.

    Each has an `id`, its kind as `event` (`state`, `phase`, `metrics`, `evaluation`, `checkpoint`, `warning`,
    `summary`), and JSON {kind, at_unix_s, data} as `data`.
    """
    async with aclosing(event_stream(parts, job.id, after, wait=follow)) as events:
        async for event in events:
            yield event


async def follow_metrics(job: FoundJob, parts: Parts, after: AfterEvent = BEGINNING) -> AsyncIterator[ServerSentEvent]:
    """The rows of `show_metrics` as they come."""
    async with aclosing(event_stream(parts, job.id, after, Kind.METRICS)) as events:
        async for event in events:
            yield event


router.routes.append(
    AcceptsStream(
        f"{PREFIX}/metrics",
        follow_metrics,
        response_class=EventSourceResponse,
        dependencies=[Depends(never_stored)],
        include_in_schema=False,  # `show_metrics` documents it
    )
)


async def _headers_of_a_stream(
    after: AfterEvent = BEGINNING,
    accept: Annotated[str | None, Header(description="With `text/event-stream` each row as it comes.")] = None,
) -> None:
    """The parameters that `follow_metrics` reads, documented and checked at the operation that both are."""


@router.get(
    "/metrics",
    dependencies=[Depends(_headers_of_a_stream)],
    response_model=MetricsPage | list[dict[str, JsonValue]],
    responses={
        **responses(404, 422),
        200: {"content": {"text/csv": {"schema": {"type": "string"}}, **stream_content("EventBody")}},
    },
)
async def show_metrics(
    job: FoundJob,
    parts: Parts,
    wanted: Wanted,
    format: Annotated[Literal["json", "csv"], Query(description="Format of the table; `csv`: all of it.")] = "json",
) -> Response:
    """One row a batch, as JSON or CSV; with `Accept: text/event-stream` each as it comes, as `/events` does."""
    rows = await feed.metrics(parts.database, job.id)
    if format == "csv":
        return PlainTextResponse(feed.as_csv(rows), media_type="text/csv")
    page = wanted.of(MetricsPage, rows)
    return JSONResponse(page if isinstance(page, list) else page.model_dump())


@router.get("/evaluations", responses=responses(404))
async def list_job_evaluations(
    job: FoundJob, parts: Parts, wanted: Wanted
) -> EvaluationResultPage | list[EvaluationResult]:
    """Evaluations that the job itself made so far, in order of time."""
    found = [EvaluationResult.model_validate(one) for one in await feed.evaluations(parts.database, job.id)]
    return wanted.of(EvaluationResultPage, found)


@router.get("/log", responses=responses(404, 422))
async def list_events(
    job: FoundJob,
    parts: Parts,
    limit: Annotated[int, Query(ge=1, le=feed.PAGE, description="Most events of one page.")] = feed.PAGE,
    cursor: Annotated[
        str | None, Query(pattern=STREAM_ID, description="`next_cursor` of the page before.", examples=[BEGINNING])
    ] = None,
    wait_s: Annotated[
        float, Query(ge=0, le=30, description="Seconds to wait for an event where there is none behind `cursor`.")
    ] = 0.0,
) -> EventPage:
    """The job's events as pages, for those who cannot read a stream: ask with each `next_cursor` until it is null."""
    after = cursor or BEGINNING
    ended, rows = await feed.awaited_events(parts.database, parts.news, job.id, after, wait_s=wait_s)
    items = [JobEvent(id=row.stream_id, kind=row.kind, at_unix_s=row.at_unix_s, data=row.data) for row in rows[:limit]]
    over = ended and len(rows) <= limit and len(rows) < feed.PAGE
    return EventPage(items=items, next_cursor=None if over else items[-1].id if items else after)
