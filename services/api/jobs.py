"""The use cases on jobs: submit, look, command. All of it is SQL; telling the trainer is the reconciler's part."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from services.api.database import Database
from services.api.problems import Problem, not_found
from services.api.states import CommandRefused, JobState, Wish, wish_after
from services.api.tables import IdempotencyRow, JobRow
from services.api.views import JobDetail, job_detail
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec

_HEX_MS, _HEX_RANDOM = 11, 3  # milliseconds fit 11 digits until the year 2527; 2**24 jobs in one of them collide


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list shows; None means any."""

    state: JobState | None = None
    name: str | None = None
    environment: str | None = None
    advantage_estimator: str | None = None


def new_job_id() -> str:
    """`j` and 17 hex digits that grow with time: valid in Redis keys, folders and URLs."""
    return f"j{time.time_ns() // 1_000_000:0{_HEX_MS}x}{secrets.token_hex(_HEX_RANDOM)}"


def body_sha(body: Any) -> str:
    """Hex digest of a JSON document, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


async def submit(
    database: Database, spec: JobSpec, environment: EnvironmentInfo, *, key: str | None, sha: str
) -> tuple[dict[str, Any], bool]:
    """Store a job.

    Returns:
        Its `JobDetail` as JSON values, and True; or the first answer to this key, and False.

    Raises:
        Problem: 409, the key was used with another body.
    """
    if key is not None and (answer := await first_answer(database, key, sha)) is not None:
        return answer, False
    row = _new_row(spec, environment)
    answer = job_detail(row).model_dump(mode="json")
    try:
        async with database.write() as session:
            session.add(row)
            await session.flush()
            if key is not None:
                session.add(
                    IdempotencyRow(
                        key=key, body_sha=sha, job_id=row.id, answer=answer, created_unix_s=row.created_unix_s
                    )
                )
    except IntegrityError:  # the same key came twice at the same time; the other call won
        first = await first_answer(database, key, sha) if key is not None else None
        if first is None:
            raise
        return first, False
    return answer, True


async def first_answer(database: Database, key: str, sha: str) -> dict[str, Any] | None:
    """The answer that this key had before; None: it is new. Raises Problem 409 for another body."""
    async with database.read() as session:
        stored = await session.get(IdempotencyRow, key)
    if stored is None:
        return None
    if stored.body_sha != sha:
        raise Problem(409, f"the Idempotency-Key was used for job {stored.job_id} with another body")
    return stored.answer


def _new_row(spec: JobSpec, environment: EnvironmentInfo) -> JobRow:
    return JobRow(
        id=new_job_id(),
        name=spec.name,
        state=JobState.PENDING.value,
        wish=Wish.RUN.value,
        told_wish=None,
        dispatched=False,
        spec=spec.model_dump(mode="json"),
        environment=environment.model_dump(mode="json"),
        created_unix_s=time.time(),
        event_id="0-0",
    )


async def find(database: Database, job_id: str) -> JobRow:
    """The job. Raises Problem 404."""
    async with database.read() as session:
        row = await session.get(JobRow, job_id)
    if row is None:
        raise not_found("job", job_id)
    return row


async def page(database: Database, wanted: JobFilter, *, limit: int, cursor: str | None) -> list[JobRow]:
    """At most `limit` jobs, newest first, older than the job `cursor` when given."""
    query = select(JobRow).order_by(JobRow.id.desc()).limit(limit)
    if cursor is not None:
        query = query.where(JobRow.id < cursor)
    if wanted.state is not None:
        query = query.where(JobRow.state == wanted.state.value)
    if wanted.name is not None:
        query = query.where(JobRow.name == wanted.name)
    if wanted.environment is not None:
        query = query.where(JobRow.spec[("environment", "environment")].as_string() == wanted.environment)
    if wanted.advantage_estimator is not None:
        estimator = JobRow.spec[("algorithm", "advantage_estimator")].as_string()
        query = query.where(estimator == wanted.advantage_estimator)
    async with database.read() as session:
        return list((await session.scalars(query)).all())


async def command(database: Database, job_id: str, wanted: Wish) -> JobDetail:
    """Note what the user wants of a job. Raises Problem 404, or 409 when its state does not allow it."""
    async with database.write() as session:
        row = await session.get(JobRow, job_id)
        if row is None:
            raise not_found("job", job_id)
        try:
            row.wish = wish_after(wanted, JobState(row.state), Wish(row.wish)).value
        except CommandRefused as refusal:
            raise Problem(409, f"cannot {_VERBS[wanted]} job {job_id}: {refusal}") from refusal
        if wanted == Wish.RUN and row.state == JobState.PAUSED:
            row.dispatched = False
        return job_detail(row)


_VERBS = {Wish.RUN: "resume", Wish.PAUSE: "pause", Wish.CANCEL: "cancel"}
