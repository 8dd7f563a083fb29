"""What a job says while it runs: events as a stream, metrics and evaluations as tables."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from services.api import feed, jobs
from services.api.container import Parts
from services.api.observer import stream_position
from services.api.problems import Problem

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["feed"])

LastEventId = Annotated[str | None, Header()]


@router.get("/events")
async def events(job_id: str, parts: Parts, last_event_id: LastEventId = None) -> StreamingResponse:
    """Server-sent events from the beginning, or from after `Last-Event-ID`; the stream ends after the job's last."""
    await jobs.find(parts.database, job_id)
    after = last_event_id or "0-0"
    try:
        stream_position(after)
    except ValueError as error:
        raise Problem(422, f"Last-Event-ID: {error}", errors=[("Last-Event-ID", str(error))]) from error
    stream = feed.server_sent_events(parts.database, job_id, after, parts.observer.wait_for_news)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


@router.get("/metrics", response_model=list[dict[str, Any]])
async def metrics(job_id: str, parts: Parts, format: Literal["json", "csv"] = "json") -> Response:
    """One row a batch."""
    await jobs.find(parts.database, job_id)
    rows = await feed.metrics(parts.database, job_id)
    if format == "csv":
        return PlainTextResponse(feed.as_csv(rows), media_type="text/csv")
    return JSONResponse(rows)


@router.get("/evaluations")
async def evaluations(job_id: str, parts: Parts) -> list[dict[str, Any]]:
    """Every evaluation so far, in order of time."""
    await jobs.find(parts.database, job_id)
    return await feed.evaluations(parts.database, job_id)
