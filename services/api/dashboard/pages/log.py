"""The log of a job: a timeline of its phases, and its events line by line."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from redis.exceptions import RedisError

from services.api.dashboard.log_lines import SHOWN, kinds_of, log_lines, services_of
from services.api.dashboard.rendering import PageRoute, page
from services.api.dashboard.timeline import timeline
from services.api.http.app_parts import Container, Parts
from services.api.http.routes.parameters import TEXT, FoundJob
from services.api.jobs.job_view import job_view
from services.api.rest.caller import Asking, Caller
from services.api.rest.problems import Problem
from services.api.sync import feed
from services.api.sync.stream_ids import stream_position
from services.contracts.events import Kind
from services.contracts.states import TERMINAL
from services.ledger.presence import present_instances
from services.presentation.batch_pictures import PARTS, pictures

router = APIRouter(prefix="/jobs/{job_id}", route_class=PageRoute, include_in_schema=False)

PAGE = 200
PATIENCE_S = 1.0
"""Longest wait for Redis, which knows the live services."""
PICTURES = 20
"""Batches whose time is shown, the newest ones."""
Shown = Literal["", "warning", "alarm", "trouble", "state", "phase", "evaluation", "checkpoint", "metrics"]
_ON_THE_TIMELINE = [Kind.STATE, Kind.PHASE, Kind.CHECKPOINT, Kind.EVALUATION, Kind.WARNING]


@router.get("/log")
async def log(
    job: FoundJob,
    request: Request,
    parts: Parts,
    caller: Asking,
    show: Shown = "",
    text: Annotated[str, Query(max_length=100, pattern=TEXT)] = "",
    before: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """The newest events first; `before` is the stream id of the last one on the page before."""
    try:
        position = stream_position(before) if before else None
    except ValueError as error:
        raise Problem(422, f"before: {error}") from error
    rows = await feed.newest_events(parts.database, job.id, kinds_of(show), text=text, before=position, limit=PAGE)
    life = await feed.events_of(parts.database, job.id, _ON_THE_TIMELINE)
    over = job.state in TERMINAL
    return await page(
        request,
        "log.html",
        job=job_view(job),
        tab="log",
        lines=log_lines(rows, show),
        older=rows[-1].stream_id if len(rows) == PAGE else None,
        timeline=timeline(life, (job.finished_unix_s if over else None) or time.time()),
        pictures=pictures((await feed.metrics(parts.database, job.id))[-PICTURES:])[::-1],
        picture_parts=list(PARTS.values()),
        services=[] if over else await _at_work(parts, caller, job.id),
        shown=SHOWN,
        show=show,
        text=text,
        before=before,
        over=over,
    )


async def _at_work(parts: Container, caller: Caller, job_id: str) -> list[Any]:
    """Live instances that are at work on it; what they say names jobs of every project, so not everybody sees it."""
    if caller.sees is not None:
        return []
    try:
        found = await asyncio.wait_for(present_instances(parts.redis), PATIENCE_S)
    except (RedisError, OSError, TimeoutError):
        return []
    return services_of(found, job_id)
