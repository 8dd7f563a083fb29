"""Insight into a job: its diagnosis, its states, changes of the policy, and watched episodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.api.artifacts.storage import job_folder
from services.api.http.app_parts import Container, Parts
from services.api.http.event_streams import never_stored, stream_content
from services.api.http.routes.parameters import TEXT, FoundJob
from services.api.insight.gathering import diagnose
from services.api.insight.live_steps import Known, live_steps
from services.api.insight.played import MOST_BATCHES, Played, Wanted, sides
from services.api.insight.state_views import Sort, change_page, state_page
from services.api.insight.watching import begin_watch, end_watch, find_watch
from services.api.jobs import queries as jobs
from services.api.rest.caller import Asking
from services.api.rest.problems import responses
from services.contracts.rest.insight import ChangePage, Diagnosis, StatePage, WatchRequest, WatchView
from services.contracts.rest.rollouts import RolloutPurpose

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["insight"])

OfPurpose = Annotated[RolloutPurpose, Query(description="Which rollouts; of evaluations, those of the policy.")]
Batch = Annotated[
    int | None, Query(ge=0, le=1 << 31, description="Number of a batch; for evaluations, the policy version.")
]
Width = Annotated[int, Query(ge=1, le=MOST_BATCHES, description="Number of stored batches that are combined.")]
MinVisits = Annotated[int, Query(ge=1, le=1 << 31, description="Only states that were visited at least this often.")]
PageLimit = Annotated[int, Query(ge=1, le=200, description="Largest number of entries on a page.")]
Position = Annotated[str | None, Query(pattern=r"^\d{1,9}$", description="`next_cursor` of the previous page.")]

WatchId = Annotated[str, Path(pattern=r"^[wj][0-9a-f]{1,31}$", description="Id of the watch.")]
AfterStep = Annotated[
    str, Header(alias="Last-Event-ID", pattern=r"^([0-9]{1,18}-[0-9]{1,9})?$", description="Continue after this event.")
]
KNOWN_BATCHES = 20
"""Newest stored batches that say what is known of a watched state."""


@router.get("/diagnosis", responses=responses(404))
async def diagnose_job(job: FoundJob, parts: Parts) -> Diagnosis:
    """Obstacles to a job's learning: findings with their figures, their meaning, and the remedy."""
    folder = job_folder(parts.settings.data_dir, job.id)
    return await diagnose(parts.database, parts.redis, parts.rollouts, folder, job)


@router.get("/states", responses=responses(404, 422))
async def list_states(
    job: FoundJob,
    parts: Parts,
    purpose: OfPurpose = "training",
    from_batch: Batch = None,
    to_batch: Batch = None,
    width: Width = 10,
    sort: Annotated[Sort, Query(description="Order: largest regret, most visits or least return first.")] = ("regret"),
    text: Annotated[
        str | None,
        Query(max_length=200, pattern=TEXT, description="Only states whose task or anchor contains this text."),
    ] = None,
    min_visits: MinVisits = 5,
    limit: PageLimit = 50,
    cursor: Position = None,
) -> StatePage:
    """States of whole batches, the newest `width` of those asked for: where the policy errs, and what it does there."""
    wanted = Wanted(purpose, from_batch, to_batch, width)
    played = await _played(parts, job.id, wanted)
    return await asyncio.to_thread(
        state_page, played, sort=sort, text=text, min_visits=min_visits, offset=int(cursor or 0), limit=limit
    )


@router.get("/changes", responses=responses(404, 422))
async def list_changes(
    job: FoundJob,
    parts: Parts,
    caller: Asking,
    with_job: Annotated[
        str | None, Query(max_length=32, pattern=TEXT, description="Job to compare with, by its newest batches.")
    ] = None,
    from_batch: Batch = None,
    to_batch: Batch = None,
    width: Width = 5,
    purpose: OfPurpose = "training",
    min_visits: MinVisits = 5,
    limit: PageLimit = 50,
    cursor: Position = None,
) -> ChangePage:
    """The states in which the policy chooses otherwise: from `from_batch` (null: the oldest) to `to_batch` (null: the
    newest) of one job, or from another job's newest batches to this one's."""
    other = job if with_job is None else await jobs.find(parts.database, caller, with_job)
    before, after = sides(from_batch, to_batch, width, purpose, of_one_job=with_job is None)
    then, now = await _played(parts, other.id, before), await _played(parts, job.id, after)
    return await asyncio.to_thread(change_page, then, now, min_visits=min_visits, offset=int(cursor or 0), limit=limit)


async def _played(parts: Container, job_id: str, wanted: Wanted) -> Played:
    folder = job_folder(parts.settings.data_dir, job_id)
    return await asyncio.to_thread(parts.states.played, job_id, folder, wanted)


@router.post("/watches", status_code=201, responses=responses(404, 409, 422, 429, 503))
async def watch_job(job: FoundJob, wanted: WatchRequest, parts: Parts, caller: Asking) -> WatchView:
    """Let a policy play one episode to be watched.

    The newest version of a running job plays beside its training, on the replica that serves it. Any other policy plays
    as an evaluation of one episode, which waits until a replica is free to load the checkpoint.
    """
    return await begin_watch(parts.redis, parts.database, parts.admission, caller, job, wanted)


async def _steps(
    job: FoundJob, watch_id: WatchId, parts: Parts, caller: Asking, after: AfterStep = ""
) -> AsyncGenerator[ServerSentEvent, None]:
    """The events of the watch of the path. Raises Problem 404 before any of them."""
    watch = await find_watch(parts.redis, parts.database, caller, job, watch_id)
    folder = job_folder(parts.settings.data_dir, job.id)
    known = await asyncio.to_thread(lambda: Known(parts.states.known(job.id, folder, KNOWN_BATCHES)))
    return live_steps(parts.redis, parts.database, parts.news, watch, known, after)


@router.get(
    "/watches/{watch_id}",
    response_class=EventSourceResponse,
    dependencies=[Depends(never_stored)],
    responses={**responses(404, 422), 200: {"content": stream_content()}},
)
async def follow_watch(
    steps: Annotated[AsyncGenerator[ServerSentEvent, None], Depends(_steps)],
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events of a watched episode, until it is over: `waiting`, `began`, `state` (what the policy is shown,
    and what the job's stored rollouts know of that state), `step` (reply, action, reward), `ended` or `failed`."""
    async with aclosing(steps) as events:
        async for event in events:
            yield event


@router.delete("/watches/{watch_id}", status_code=204, responses=responses(404))
async def stop_watch(job: FoundJob, watch_id: WatchId, parts: Parts, caller: Asking) -> None:
    """Stop the episode, which nobody wants to see any more."""
    watch = await find_watch(parts.redis, parts.database, caller, job, watch_id)
    await end_watch(parts.redis, parts.database, caller, job, watch)
    parts.reconciler.wake()
