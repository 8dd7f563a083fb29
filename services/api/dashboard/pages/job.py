"""One job: its live curves and its spec."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

import yaml
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from redis.exceptions import RedisError

from services.api.dashboard import comparison, live
from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Container, Parts
from services.api.http.event_streams import never_stored
from services.api.http.routes.parameters import BEGINNING, FoundJob
from services.api.insight.alarms import alarms_of
from services.api.jobs.dead_letters import counted
from services.api.jobs.job_view import job_view
from services.api.jobs.progress import progress_of
from services.api.rest.caller import Asking
from services.api.rest.problems import Problem
from services.api.sql.tables import JobRow
from services.api.sync import feed
from services.api.sync.stream_ids import stream_position
from services.api.sync.waiting_jobs import last_reason
from services.contracts.rest.catalogue import AlarmView
from services.contracts.states import TERMINAL, JobState
from services.presentation.panels import panels_of

router = APIRouter(prefix="/jobs/{job_id}", route_class=PageRoute, include_in_schema=False)

TABLE_ROWS = 50
"""Batches in the table below the curves; the CSV has all."""
PATIENCE_S = 1.0
"""Longest wait for Redis."""


@router.get("")
async def overview(job: FoundJob, request: Request, parts: Parts) -> Response:
    """Warnings, and curves over batches."""
    metrics = await feed.metrics(parts.database, job.id)
    evaluations = await feed.evaluations(parts.database, job.id)
    run = comparison.run_document([job], [comparison.Told(metrics, evaluations)])
    panels = panels_of(job.members)
    over = job.state in TERMINAL
    alarms, letters = await _troubles(parts, job)
    return await page(
        request,
        "job.html",
        job=job_view(job),
        waits_for=await last_reason(parts.database, job.id) if job.state == JobState.QUEUED else None,
        progress=(await progress_of(parts.database, [job])).get(job.id),
        tab="overview",
        document=comparison.document(panels, [run], [job.id], "each"),
        panels=panels,
        warnings=await feed.warnings(parts.database, job.id),
        alarms=alarms,
        letters=letters,
        latest=metrics[-TABLE_ROWS:][::-1],
        live_url=None if over else f"/jobs/{job.id}/live?after={job.event_id}",
    )


async def _troubles(parts: Container, job: JobRow) -> tuple[list[AlarmView], int]:
    """Alarms and the number of dead letters; none while Redis does not answer, which the page says."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await alarms_of(parts.redis, job), await counted(parts.redis, job.id)
    except (RedisError, OSError, TimeoutError):
        return [], 0


async def _position(
    after: Annotated[str, Query(max_length=40)] = BEGINNING,
    last_event_id: Annotated[str | None, Header(max_length=40)] = None,
) -> str:
    """The place at which the page's updates begin; a browser that reconnects goes on where it was."""
    position = last_event_id or after
    try:
        stream_position(position)
    except ValueError as error:
        raise Problem(422, f"after: {error}") from error
    return position


@router.get("/live", response_class=EventSourceResponse, dependencies=[Depends(never_stored)])
async def updates(
    job: FoundJob, parts: Parts, caller: Asking, after: Annotated[str, Depends(_position)]
) -> AsyncIterator[ServerSentEvent]:
    """The job's changes from now on."""
    async with aclosing(live.job_updates(parts, caller, job.id, after)) as found:
        async for update in found:
            yield update


@router.get("/spec")
async def spec(job: FoundJob, request: Request) -> Response:
    """The spec of the job, every default written out."""
    text = yaml.safe_dump(job.spec, sort_keys=False, allow_unicode=True)
    return await page(request, "spec.html", job=job_view(job), tab="spec", text=text)
