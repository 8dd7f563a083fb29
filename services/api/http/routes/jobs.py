"""Jobs: submit, list, show, command."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator

from services.api.http.app_parts import Container, Parts
from services.api.http.routes.parameters import TEXT, Cursor, FoundJob, IdempotencyKey, JobId, PageLimit
from services.api.jobs import queries as jobs
from services.api.jobs.admission import Call
from services.api.jobs.annotations import annotate
from services.api.jobs.job_view import job_detail, job_view
from services.api.jobs.removal import Removal
from services.api.jobs.submissions import Answer, body_sha
from services.api.rest.caller import Asking
from services.api.rest.problems import not_found, responses
from services.api.sync.fair_queue import jobs_before
from services.api.sync.waiting_jobs import last_reason
from services.contracts.job import JobSpec
from services.contracts.rest.base import Document
from services.contracts.rest.jobs import (
    TAG,
    DryRun,
    ForkRequest,
    JobChanges,
    JobDetail,
    JobKind,
    JobPage,
    JobRemains,
)
from services.contracts.states import Command, JobState
from services.contracts.summary import JobSummary

SUBMIT_PATH = "/v1/jobs"


def in_capitals(state: object) -> object:
    """The state in upper case: people type it in lower case."""
    return state.upper() if isinstance(state, str) else state


Archived = Literal["no", "yes", "any"]
_ARCHIVED: dict[Archived, bool | None] = {"no": False, "yes": True, "any": None}
router = APIRouter(prefix=SUBMIT_PATH, tags=["jobs"])


def created(view: type[Document]) -> dict[int | str, dict[str, object]]:
    """The documentation of a call that makes a job: 201, and 200 when its Idempotency-Key was there before."""
    location = {"Location": {"description": "URL path of the new job.", "schema": {"type": "string"}}}
    return {
        201: {"model": view, "description": "Stored.", "headers": location},
        200: {"model": view, "description": "The answer that the Idempotency-Key had before.", "headers": location},
    }


def answered(answer: Answer) -> Response:
    """201 for a new job, 200 for a repeated key."""
    headers = {"Location": f"/v1/jobs/{answer.job_id}"}
    return Response(answer.body, 201 if answer.new else 200, headers=headers, media_type="application/json")


@router.post(
    "",
    status_code=201,
    response_model=JobDetail,
    responses={
        **responses(409, 422, 503),
        **created(JobDetail),
        200: {"model": JobDetail | DryRun, "description": "A dry run, or the answer that the key had before."},
    },
)
async def submit_job(
    spec: JobSpec,
    parts: Parts,
    caller: Asking,
    request: Request,
    dry_run: Annotated[bool, Query(description="Check and estimate; store nothing.")] = False,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Submit a job. A repeated Idempotency-Key with the same body gives the first answer again, with 200."""
    if dry_run:
        return JSONResponse((await parts.admission.dry_run(caller, spec)).model_dump(mode="json"))
    call = Call(caller, idempotency_key, body_sha("submit", await request.json()))
    return answered(await parts.admission.submit(call, spec))


@router.get("", responses=responses(422))
async def list_jobs(
    parts: Parts,
    caller: Asking,
    state: Annotated[
        JobState | None, BeforeValidator(in_capitals), Query(description="Only jobs in this state; `running` does too.")
    ] = None,
    name: Annotated[str | None, Query(max_length=64, pattern=TEXT, description="Only jobs of this name.")] = None,
    environment: Annotated[
        str | None, Query(max_length=128, pattern=TEXT, description="Only jobs in this environment, e.g. `grid`.")
    ] = None,
    advantage_estimator: Annotated[
        str | None, Query(max_length=16, pattern=TEXT, description="Only jobs with this estimator, e.g. `gigpo`.")
    ] = None,
    kind: Annotated[JobKind | None, Query(description="Only trainings, or only evaluations.")] = None,
    parent_job: Annotated[
        str | None, Query(max_length=32, pattern=TEXT, description="Only what retries, forks or evaluates this job.")
    ] = None,
    created_after: Annotated[float | None, Query(allow_inf_nan=False, description="Unix seconds, inclusive.")] = None,
    created_before: Annotated[float | None, Query(allow_inf_nan=False, description="Unix seconds, exclusive.")] = None,
    tag: Annotated[str | None, Query(pattern=TAG, description="Only jobs with this tag.")] = None,
    archived: Annotated[Archived, Query(description="Show archived jobs too.")] = "no",
    limit: PageLimit = 50,
    cursor: Cursor = None,
) -> JobPage:
    """Jobs, newest first."""
    wanted = jobs.JobFilter(
        state,
        name,
        environment,
        advantage_estimator,
        kind,
        parent_job,
        created_after,
        created_before,
        tag,
        _ARCHIVED[archived],
    )
    rows = await jobs.page(parts.database, caller, wanted, limit=limit + 1, cursor=cursor)
    more = len(rows) > limit
    return JobPage(items=[job_view(row) for row in rows[:limit]], next_cursor=rows[limit - 1].id if more else None)


@router.get("/{job_id}", responses=responses(404))
async def show_job(job: FoundJob, parts: Parts) -> JobDetail:
    """One job with its resolved spec."""
    return await _in_line(job_detail(job), parts)


@router.patch("/{job_id}", responses=responses(404, 409))
async def change_job(job_id: JobId, changes: JobChanges, parts: Parts, caller: Asking) -> JobDetail:
    """Change a job's name, tags or notes, or whether lists show it."""
    return await _in_line(await annotate(parts.database, caller, job_id, changes), parts)


@router.get("/{job_id}/remains", responses=responses(404))
async def show_remains(job_id: JobId, parts: Parts, caller: Asking) -> JobRemains:
    """The data that a deletion of the job would remove, and the data that would stay."""
    return await _removal(parts).remains(caller, job_id)


@router.delete("/{job_id}", responses=responses(404, 409, 503))
async def delete_job(job_id: JobId, parts: Parts, caller: Asking) -> JobRemains:
    """Delete an ended job with its events, checkpoints and rollouts; answers what went.

    Retries, forks and evaluations of the job, and files in its folder that the platform did not write, stay.
    409 while the job has not ended.
    """
    return await _removal(parts).delete(caller, job_id)


@router.get("/{job_id}/summary", responses=responses(404))
async def show_summary(job: FoundJob) -> JobSummary:
    """The summary of an ended job. 404 while there is none."""
    if job.summary is None:
        raise not_found("summary of job", job.id)
    return JobSummary.model_validate(job.summary)


@router.post("/{job_id}:cancel", status_code=202, responses=responses(404, 409))
async def cancel_job(job_id: JobId, parts: Parts, caller: Asking) -> JobDetail:
    """End a job at its next step boundary; at once when nobody works on it."""
    return await _command(job_id, parts, caller, Command.CANCEL)


@router.post("/{job_id}:pause", status_code=202, responses=responses(404, 409))
async def pause_job(job_id: JobId, parts: Parts, caller: Asking) -> JobDetail:
    """Finish the step, write a checkpoint, and leave the job until it is resumed."""
    return await _command(job_id, parts, caller, Command.PAUSE)


@router.post("/{job_id}:resume", status_code=202, responses=responses(404, 409))
async def resume_job(job_id: JobId, parts: Parts, caller: Asking) -> JobDetail:
    """Go on with a paused job, or take a pause back that was not reached yet."""
    return await _command(job_id, parts, caller, Command.RUN)


@router.post(
    "/{job_id}:retry",
    status_code=201,
    response_model=JobDetail,
    responses={**responses(404, 409, 422, 503), **created(JobDetail)},
)
async def retry_job(job: FoundJob, parts: Parts, caller: Asking, idempotency_key: IdempotencyKey = None) -> Response:
    """A new job with the spec of a failed or cancelled one, which goes on from its newest checkpoint.

    Without a checkpoint it starts anew. 409 while the job has not ended, and when it succeeded.
    """
    call = Call(caller, idempotency_key, body_sha("retry", job.id))
    return answered(await parts.admission.retry(call, job))


@router.post(
    "/{job_id}:fork",
    status_code=201,
    response_model=JobDetail,
    responses={**responses(404, 409, 422, 503), **created(JobDetail)},
)
async def fork_job(
    job: FoundJob, wanted: ForkRequest, parts: Parts, caller: Asking, idempotency_key: IdempotencyKey = None
) -> Response:
    """A new job whose policy begins as a checkpoint of this one, with a spec of its own."""
    call = Call(caller, idempotency_key, body_sha("fork", job.id, wanted.model_dump(mode="json")))
    return answered(await parts.admission.fork(call, job, wanted))


def _removal(parts: Container) -> Removal:
    return Removal(parts.database, parts.redis, parts.broker, parts.settings.data_dir)


async def _in_line(job: JobDetail, parts: Container) -> JobDetail:
    """The job; of a queued one also what it waits for, and how many go first."""
    if job.state != JobState.QUEUED:
        return job
    waits_for, before = await last_reason(parts.database, job.id), await jobs_before(parts.redis, job.id)
    return job.model_copy(update={"waits_for": waits_for, "jobs_before": before})


async def _command(job_id: str, parts: Container, caller: Asking, wanted: Command) -> JobDetail:
    detail = await jobs.command(parts.database, caller, job_id, wanted)
    parts.reconciler.wake()
    return detail
