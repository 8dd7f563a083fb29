"""Jobs: submit, list, look, command."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from services.api import jobs
from services.api.checks import resolve
from services.api.container import Container, Parts
from services.api.problems import bad_spec, not_found
from services.api.states import JobState, Wish
from services.api.tables import JobRow
from services.api.views import DryRun, JobDetail, JobPage, job_detail, job_view
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.contracts.summary import JobSummary

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=255)]


@router.post("", status_code=201, response_model=JobDetail | DryRun)
async def submit(
    spec: JobSpec,
    parts: Parts,
    request: Request,
    dry_run: bool = False,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Submit a job. Repeating an Idempotency-Key with the same body gives the first answer again, with 200."""
    sha = jobs.body_sha(await request.json())
    if idempotency_key and not dry_run and (first := await jobs.first_answer(parts.database, idempotency_key, sha)):
        return JSONResponse(first)
    environment = await _checked(spec, parts)
    if dry_run:
        return JSONResponse(DryRun(spec=spec.model_dump(mode="json"), environment=environment).model_dump(mode="json"))
    answer, new = await jobs.submit(parts.database, spec, environment, key=idempotency_key, sha=sha)
    parts.reconciler.wake()
    return JSONResponse(answer, 201 if new else 200, headers={"Location": f"/v1/jobs/{answer['id']}"})


async def _checked(spec: JobSpec, parts: Container) -> EnvironmentInfo:
    environment, problems = resolve(spec, await parts.environments.list(), parts.settings.engines)
    if environment is None or problems:
        raise bad_spec(problems)
    kwargs = environment.kwargs(spec)
    refusal = await parts.environments.opening_problem(environment.id, kwargs, spec.environment.train_split)
    if refusal is not None:
        raise bad_spec([("environment.environment_kwargs", refusal)])
    return environment


@router.get("")
async def list_jobs(
    parts: Parts,
    state: JobState | None = None,
    name: str | None = None,
    environment: str | None = None,
    advantage_estimator: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=32)] = None,
) -> JobPage:
    """Jobs, newest first."""
    wanted = jobs.JobFilter(state, name, environment, advantage_estimator)
    rows = await jobs.page(parts.database, wanted, limit=limit + 1, cursor=cursor)
    more = len(rows) > limit
    return JobPage(jobs=[job_view(row) for row in rows[:limit]], next_cursor=rows[limit - 1].id if more else None)


@router.get("/{job_id}")
async def show(job_id: str, parts: Parts) -> JobDetail:
    """One job with its resolved spec."""
    return job_detail(await jobs.find(parts.database, job_id))


@router.get("/{job_id}/summary")
async def summary(job_id: str, parts: Parts) -> JobSummary:
    """What an ended job says of itself. 404 while there is none."""
    row: JobRow = await jobs.find(parts.database, job_id)
    if row.summary is None:
        raise not_found("summary of job", job_id)
    return JobSummary.model_validate(row.summary)


@router.post("/{job_id}:cancel", status_code=202)
async def cancel(job_id: str, parts: Parts) -> JobDetail:
    """End a job at its next step boundary; at once when nobody works on it."""
    return await _command(job_id, parts, Wish.CANCEL)


@router.post("/{job_id}:pause", status_code=202)
async def pause(job_id: str, parts: Parts) -> JobDetail:
    """Finish the step, write a checkpoint, and leave the job until it is resumed."""
    return await _command(job_id, parts, Wish.PAUSE)


@router.post("/{job_id}:resume", status_code=202)
async def resume(job_id: str, parts: Parts) -> JobDetail:
    """Go on with a paused job, or take a pause back that was not reached yet."""
    return await _command(job_id, parts, Wish.RUN)


async def _command(job_id: str, parts: Container, wish: Wish) -> JobDetail:
    detail = await jobs.command(parts.database, job_id, wish)
    parts.reconciler.wake()
    return detail
