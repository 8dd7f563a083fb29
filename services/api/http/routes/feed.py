"""What a job says while it runs: events as a stream, metrics and evaluations as tables."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import JsonValue

from services.api.http.app_parts import Container, Parts
from services.api.http.routes.parameters import BEGINNING, AfterEvent, FoundJob
from services.api.rest.problems import responses
from services.api.sync import feed
from services.contracts.events import Kind
from services.contracts.summary import EvaluationResult

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["feed"])

EVENT_STREAM = "text/event-stream"
_EVENT = {"type": "object", "properties": {name: {"type": "string"} for name in ("id", "event", "data")}}
STREAM = {"content": {EVENT_STREAM: {"schema": _EVENT}}}
"""The schema is that of one event."""


@router.get("/events", response_class=StreamingResponse, responses={**responses(404, 422), 200: {**STREAM}})
async def follow_events(
    job: FoundJob,
    parts: Parts,
    after: AfterEvent = BEGINNING,
    follow: Annotated[bool, Query(description="False: the stream ends behind the newest event.")] = True,
) -> StreamingResponse:
    """Server-sent events from the beginning, or from after `Last-Event-ID`; the stream ends after the job's last.

    Each has an `id`, its kind as `event` (`state`, `phase`, `metrics`, `evaluation`, `checkpoint`, `warning`,
    `summary`), and JSON {kind, at_unix_s, data} as `data`.
    """
    return _stream(parts, job.id, after, None, wait=follow)


@router.get(
    "/metrics",
    response_model=list[dict[str, JsonValue]],
    responses={
        **responses(404, 422),
        200: {"content": {"text/csv": {"schema": {"type": "string"}}, **STREAM["content"]}},
    },
)
async def show_metrics(
    job: FoundJob,
    parts: Parts,
    after: AfterEvent = BEGINNING,
    format: Annotated[Literal["json", "csv"], Query(description="Of the table.")] = "json",
    accept: Annotated[str | None, Header(description="With `text/event-stream` each row as it comes.")] = None,
) -> Response:
    """One row a batch, as JSON or CSV; with `Accept: text/event-stream` each as it comes, as `/events` does."""
    if EVENT_STREAM in (accept or ""):
        return _stream(parts, job.id, after, Kind.METRICS)
    rows = await feed.metrics(parts.database, job.id)
    if format == "csv":
        return PlainTextResponse(feed.as_csv(rows), media_type="text/csv")
    return JSONResponse(rows)


@router.get("/evaluations", responses=responses(404))
async def list_job_evaluations(job: FoundJob, parts: Parts) -> list[EvaluationResult]:
    """Every evaluation that the job itself made so far, in order of time."""
    return [EvaluationResult.model_validate(one) for one in await feed.evaluations(parts.database, job.id)]


def _stream(parts: Container, job_id: str, after: str, kind: str | None, *, wait: bool = True) -> StreamingResponse:
    stream = feed.server_sent_events(parts.database, parts.news, job_id, after, kind=kind, wait=wait)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type=EVENT_STREAM, headers=headers)
