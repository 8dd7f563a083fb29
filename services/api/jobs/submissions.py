"""Stores submissions in SQL: an acknowledged job is durable, and a repeated Idempotency-Key gets the first answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Insert, and_, insert, literal, or_, select, tuple_
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from services.api.jobs.job_view import job_detail
from services.api.rest.caller import Caller
from services.api.rest.problems import Problem
from services.api.security.quotas import admit, locked_projects
from services.api.sql.database import Database
from services.api.sql.tables import EventRow, IdempotencyRow, JobRow
from services.contracts.environment import EnvironmentInfo
from services.contracts.events import Kind
from services.contracts.job import JobSpec
from services.contracts.rest.jobs import JobKind, Origin
from services.contracts.states import Command, JobState

_HEX_MS, _HEX_RANDOM = 11, 3  # milliseconds fit 11 digits until the year 2527; 2**24 jobs in one of them collide
_MOST_TOGETHER = 64
"""Submissions in one transaction: enough to share its fsync, few enough to answer the first one soon."""


def new_job_id() -> str:
    """`j` and 17 hex digits that grow with time: valid in Redis keys, folders and URLs."""
    return f"j{time.time_ns() // 1_000_000:0{_HEX_MS}x}{secrets.token_hex(_HEX_RANDOM)}"


def body_sha(*body: object) -> str:
    """Hex digest of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A submission that passed every check."""

    caller: Caller
    spec: JobSpec
    environment: EnvironmentInfo
    key: str | None = None
    """Idempotency-Key."""
    sha: str = ""
    """`body_sha` of what was asked for."""
    kind: JobKind = "training"
    origin: Origin | None = None
    warnings: Sequence[str] = ()
    """The warnings that the answer has besides the job."""
    id: str = field(default_factory=new_job_id)

    @property
    def scope(self) -> tuple[str, str]:
        """Project and key."""
        return self.caller.project_id, self.key or ""

    def row(self) -> JobRow:
        """The job, PENDING."""
        spec = self.spec
        return JobRow(
            id=self.id,
            project_id=self.caller.project_id,
            submitted_by=self.caller.name,
            key_id=self.caller.key_id,
            kind=self.kind,
            name=spec.name,
            state=JobState.PENDING.value,
            command=Command.RUN.value,
            told_command=None,
            dispatch_wanted=1,
            dispatch_made=0,
            parent_job=self.origin.job_id if self.origin else None,
            origin=self.origin.model_dump(mode="json") if self.origin else None,
            environment_id=self.environment.id[:128],
            advantage_estimator=spec.algorithm.advantage_estimator,
            seed=spec.training.seed,
            total_batches=spec.training.total_batches,
            spec=spec.model_dump(mode="json"),
            environment=self.environment.model_dump(mode="json"),
            created_unix_s=time.time(),
            started_unix_s=None,
            finished_unix_s=None,
            phase=None,
            error=None,
            metrics=None,
            summary=None,
            event_id="0-0",
            tags=[],
            notes=None,
            archived=False,
        )


@dataclass(frozen=True)
class Answer:
    """The answer to a submission."""

    job_id: str
    body: str
    """`JobDetail` as JSON."""
    new: bool
    """False: the key was used before, and this is what it was answered then."""


async def first_answer(database: Database, caller: Caller, key: str, sha: str) -> Answer | None:
    """The answer that this key had before; None: it is new. Raises Problem 409 for another body."""
    async with database.read() as session:
        stored = await session.get(IdempotencyRow, (caller.project_id, key))
    return None if stored is None else _repeated(stored, sha)


def _repeated(stored: IdempotencyRow, sha: str) -> Answer:
    if stored.body_sha != sha:
        sentence = f"the Idempotency-Key was used for job {stored.job_id} with another request"
        raise Problem(409, sentence, errors=[("Idempotency-Key", sentence)])
    return Answer(stored.job_id, stored.answer, new=False)


class Submissions:
    """Stores new jobs; those that come at the same time share one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[NewJob, asyncio.Future[Answer]]] = []
        self._storing: asyncio.Task[None] | None = None

    async def store(self, new: NewJob) -> Answer:
        """Store a job; when this returns, it is durable.

        Raises:
            Problem: 409, the key was used with another body; 403 or 429, it does not fit the project's quotas.
        """
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((new, answered))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_waiting())
        return await answered

    async def _store_waiting(self) -> None:
        while self._waiting:
            together, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
            outcomes = await self._outcomes([new for new, _ in together])
            for (_, answered), outcome in zip(together, outcomes, strict=True):
                if answered.done():  # whoever asked went away
                    continue
                if isinstance(outcome, Answer):
                    answered.set_result(outcome)
                else:
                    answered.set_exception(outcome)

    async def _outcomes(self, jobs: Sequence[NewJob]) -> list[Answer | Exception]:
        try:
            async with self._database.write() as session:
                return await _insert(session, jobs)
        except (OperationalError, OSError) as error:  # the database is away, for each of them
            return [error for _ in jobs]
        except Exception as error:  # noqa: BLE001 - each caller raises it on their own
            if len(jobs) > 1:  # one of them is at fault: it must not fail its neighbours
                return [(await self._outcomes([job]))[0] for job in jobs]
            if isinstance(error, IntegrityError):  # another process was faster with the key
                return [await self._lost_race(jobs[0], error)]
            return [error]

    async def _lost_race(self, job: NewJob, error: IntegrityError) -> Answer | Exception:
        try:
            first = job.key is not None and await first_answer(self._database, job.caller, job.key, job.sha)
        except Exception as other:  # noqa: BLE001 - its caller raises it
            return other
        return first or error


async def _insert(session: AsyncSession, jobs: Sequence[NewJob]) -> list[Answer | Exception]:
    known = {(row.project_id, row.key): row for row in await _stored_keys(session, jobs)}
    projects = await locked_projects(session, {job.caller.project_id for job in jobs})
    outcomes: list[Answer | Exception] = []
    keys: list[IdempotencyRow] = []
    for job in jobs:
        if job.key is not None and (stored := known.get(job.scope)) is not None:
            try:
                outcomes.append(_repeated(stored, job.sha))
            except Problem as problem:
                outcomes.append(problem)
            continue
        try:
            await admit(session, projects.get(job.caller.project_id), job.spec)
        except Problem as problem:
            outcomes.append(problem)
            continue
        row = job.row()
        session.add(row)
        body = job_detail(row, job.warnings).model_dump_json()
        outcomes.append(Answer(job.id, body, new=True))
        if job.key is not None:
            known[job.scope] = _key_row(job, body, row.created_unix_s)
            keys.append(known[job.scope])
    await session.flush()  # keys and events refer to the jobs
    session.add_all(keys)
    for job in jobs:
        if job.origin is not None and job.origin.kind == "retry" and job.origin.version is not None:
            await session.execute(_events_taken_over(job.id, job.origin.job_id, job.origin.version))
    return outcomes


async def _stored_keys(session: AsyncSession, jobs: Sequence[NewJob]) -> Iterator[IdempotencyRow]:
    scopes = {job.scope for job in jobs if job.key is not None}
    if not scopes:
        return iter(())
    columns = tuple_(IdempotencyRow.project_id, IdempotencyRow.key)
    return iter((await session.scalars(select(IdempotencyRow).where(columns.in_(scopes)))).all())


def _events_taken_over(job_id: str, parent: str, batch: int) -> Insert:
    """Metrics and evaluations of the training that a retry goes on with, under the stream ids they had: whoever looks
    at the new job sees its whole curve."""
    trained = and_(EventRow.kind == Kind.METRICS.value, EventRow.data["batch"].as_integer() < batch)
    measured = and_(EventRow.kind == Kind.EVALUATION.value, EventRow.data["version"].as_integer() <= batch)
    columns = [EventRow.ms, EventRow.seq, EventRow.kind, EventRow.at_unix_s, EventRow.data]
    theirs = select(literal(job_id), *columns).where(EventRow.job_id == parent, or_(trained, measured))
    return insert(EventRow).from_select([EventRow.job_id, *columns], theirs)


def _key_row(job: NewJob, body: str, created_unix_s: float) -> IdempotencyRow:
    project, key = job.scope
    return IdempotencyRow(
        project_id=project, key=key, body_sha=job.sha, job_id=job.id, answer=body, created_unix_s=created_unix_s
    )
