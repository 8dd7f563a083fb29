"""Insight pages of a job: its diagnosis, changes of the policy, states over whole batches, and a watched episode."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from services.api.artifacts.rollouts import archives_of
from services.api.artifacts.storage import checkpoint_names, job_folder
from services.api.dashboard.forms import Form
from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Container, Parts
from services.api.http.routes.parameters import TEXT, FoundJob
from services.api.insight.gathering import diagnose
from services.api.insight.played import Wanted, sides
from services.api.insight.state_views import change_page, state_page
from services.api.insight.watching import begin_watch
from services.api.jobs import queries as jobs
from services.api.jobs.job_view import job_view
from services.api.jobs.queries import JobFilter
from services.api.rest.caller import Asking
from services.api.rest.problems import Problem, bad_spec
from services.api.sql.tables import JobRow
from services.contracts.plain_errors import in_words
from services.contracts.rest.insight import WatchRequest
from services.contracts.rest.rollouts import RolloutPurpose
from services.contracts.states import JobState

router = APIRouter(prefix="/jobs/{job_id}/insight", route_class=PageRoute, include_in_schema=False)

SHOWN, SEARCHED, CANDIDATES = 12, 50, 100
"""States of either list, states of a search, jobs to compare with."""
Number = Annotated[str, Query(pattern=r"^\d{0,9}$")]
"""A field of a form: empty means its default."""
Words = Annotated[str, Query(max_length=200, pattern=TEXT)]


@router.get("")
async def diagnosis(job: FoundJob, request: Request, parts: Parts) -> Response:
    """The findings that keep the job from learning."""
    folder = job_folder(parts.settings.data_dir, job.id)
    found = await diagnose(parts.database, parts.redis, parts.rollouts, folder, job)
    return await page(request, "diagnosis.html", job=job_view(job), tab="insight", part="diagnosis", found=found)


@router.get("/changed")
async def changed(
    job: FoundJob,
    request: Request,
    parts: Parts,
    caller: Asking,
    with_job: Annotated[str, Query(max_length=32, pattern=TEXT)] = "",
    from_batch: Number = "",
    to_batch: Number = "",
    width: Number = "",
    min_visits: Number = "",
    purpose: RolloutPurpose = "training",
) -> Response:
    """The states in which the policy chooses otherwise, and those in which it errs most."""
    other = await jobs.find(parts.database, caller, with_job) if with_job else job
    visits = max(_number(min_visits) or 5, 1)
    before, after = sides(_number(from_batch), _number(to_batch), _number(width) or 5, purpose, of_one_job=not with_job)
    folders = [job_folder(parts.settings.data_dir, one.id) for one in (other, job)]
    changes, erring, missing = None, None, ""
    try:
        then = await asyncio.to_thread(parts.states.played, other.id, folders[0], before)
        now = await asyncio.to_thread(parts.states.played, job.id, folders[1], after)
    except Problem as problem:
        missing = problem.detail
    else:
        changes = await asyncio.to_thread(change_page, then, now, min_visits=visits, offset=0, limit=SHOWN)
        erring = await asyncio.to_thread(
            state_page, now, sort="regret", text=None, min_visits=visits, offset=0, limit=SHOWN
        )
    candidates = await jobs.page(parts.database, caller, JobFilter(), limit=CANDIDATES, cursor=None)
    return await page(
        request,
        "changed.html",
        job=job_view(job),
        tab="insight",
        part="changed",
        changes=changes,
        erring=erring,
        missing=missing,
        candidates=[job_view(one) for one in candidates if one.id != job.id],
        wanted=request.query_params,
        visits=visits,
    )


@router.get("/states")
async def states(
    job: FoundJob,
    request: Request,
    parts: Parts,
    text: Words = "",
    sort: Literal["regret", "visits", "return"] = "regret",
    from_batch: Number = "",
    to_batch: Number = "",
    min_visits: Number = "",
) -> Response:
    """States of whole batches, searched."""
    folder = job_folder(parts.settings.data_dir, job.id)
    found = None
    if await asyncio.to_thread(archives_of, folder):
        bounded = Wanted(first=_number(from_batch), last=_number(to_batch), newest=10)
        played = await asyncio.to_thread(parts.states.played, job.id, folder, bounded)
        found = await asyncio.to_thread(
            state_page,
            played,
            sort=sort,
            text=text or None,
            min_visits=max(_number(min_visits) or 5, 1),
            offset=0,
            limit=SEARCHED,
        )
    return await page(
        request,
        "states.html",
        job=job_view(job),
        tab="insight",
        part="states",
        found=found,
        sort=sort,
        wanted=request.query_params,
    )


@router.get("/watch")
async def watch(job: FoundJob, request: Request, parts: Parts) -> Response:
    """Choose what is to play."""
    return await _watch_page(job, request, parts, None)


@router.post("/watch")
async def begin(job: FoundJob, parts: Parts, caller: Asking, fields: Form) -> RedirectResponse:
    """Let it play, and go where it can be seen."""
    given = {name: fields.get(name) or None for name in ("checkpoint", "seed", "split")}
    try:
        wanted = WatchRequest.model_validate(given)
    except ValidationError as error:
        problems = [(str(one["loc"][0]), in_words(one)) for one in error.errors()]
        raise bad_spec(problems) from None
    begun = await begin_watch(parts.redis, parts.database, parts.admission, caller, job, wanted)
    return RedirectResponse(f"/jobs/{job.id}/insight/watch/{begun.watch_id}", 303)


@router.get("/watch/{watch_id}")
async def watched(
    job: FoundJob,
    watch_id: Annotated[str, Path(pattern=r"^[wj][0-9a-f]{1,31}$")],
    request: Request,
    parts: Parts,
) -> Response:
    """The episode, as it goes on."""
    return await _watch_page(job, request, parts, watch_id)


async def _watch_page(job: JobRow, request: Request, parts: Container, watch_id: str | None) -> Response:
    folder = job_folder(parts.settings.data_dir, job.id)
    return await page(
        request,
        "watch.html",
        job=job_view(job),
        tab="insight",
        part="watch",
        watch_id=watch_id,
        checkpoints=(await asyncio.to_thread(checkpoint_names, folder))[::-1],
        beside=job.state == JobState.RUNNING,
        split=str(job.environment_section["eval_split"]),
    )


def _number(text: str) -> int | None:
    return int(text) if text else None
