"""The use cases on jobs: show, list, command. They use SQL only; the reconciler passes commands on to the trainer."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import defer

from services.api.jobs.job_view import job_detail
from services.api.rest.caller import Caller
from services.api.rest.problems import Problem, not_found
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.contracts.rest.jobs import JobDetail, JobKind
from services.contracts.states import Command, CommandRefused, JobState, command_after


@dataclass(frozen=True)
class JobFilter:
    """Which jobs a list shows; None means any."""

    state: JobState | None = None
    name: str | None = None
    environment: str | None = None
    advantage_estimator: str | None = None
    kind: JobKind | None = None
    parent_job: str | None = None
    created_after: float | None = None
    """Unix seconds, inclusive."""
    created_before: float | None = None
    """Unix seconds, exclusive."""
    tag: str | None = None
    archived: bool | None = False

    def conditions(self) -> list[ColumnElement[bool]]:
        """Write the filter as SQL."""
        equal = {
            JobRow.state: self.state and self.state.value,
            JobRow.name: self.name,
            JobRow.environment_id: self.environment,
            JobRow.advantage_estimator: self.advantage_estimator,
            JobRow.kind: self.kind,
            JobRow.parent_job: self.parent_job,
            JobRow.archived: self.archived,
        }
        found = [column == value for column, value in equal.items() if value is not None]
        if self.created_after is not None:
            found.append(JobRow.created_unix_s >= self.created_after)
        if self.created_before is not None:
            found.append(JobRow.created_unix_s < self.created_before)
        if self.tag is not None:
            found.append(JobRow.tag_line.contains(f" {self.tag} ", autoescape=True))
        return found


async def find(database: Database, caller: Caller, job_id: str) -> JobRow:
    """The job. Raises Problem 404, also for a job of another project."""
    async with database.seen_by(caller).read() as session:
        row = await session.get(JobRow, job_id)
    if row is None:
        raise not_found("job", job_id)
    return row


async def page(
    database: Database,
    caller: Caller,
    wanted: JobFilter,
    *,
    limit: int,
    cursor: str | None,
    with_spec: bool = False,
) -> list[JobRow]:
    """At most `limit` jobs that the caller sees, newest first, older than the job `cursor` when given.

    Their environments are not loaded, their specs and summaries only if wanted.
    """
    left_out = [JobRow.environment] if with_spec else [JobRow.environment, JobRow.spec, JobRow.summary]
    query = (
        select(JobRow)
        .where(*wanted.conditions())
        .options(*(defer(column, raiseload=True) for column in left_out))
        .order_by(JobRow.id.desc())
        .limit(limit)
    )
    if cursor is not None:
        query = query.where(JobRow.id < cursor)
    async with database.seen_by(caller).read() as session:
        return list((await session.scalars(query)).all())


async def command(database: Database, caller: Caller, job_id: str, wanted: Command) -> JobDetail:
    """Note what the user wants of a job. Raises Problem 404, or 409 when its state does not allow it."""
    async with database.seen_by(caller).write() as session:
        row = await session.get(JobRow, job_id, with_for_update=True)
        if row is None:
            raise not_found("job", job_id)
        try:
            row.command = command_after(wanted, JobState(row.state), Command(row.command)).value
        except CommandRefused as refusal:
            raise Problem(409, f"cannot {_VERBS[wanted]} job {job_id}: {refusal}") from refusal
        if wanted == Command.RUN and row.state == JobState.PAUSED:
            row.dispatch_wanted += 1
        return job_detail(row)


_VERBS = {Command.RUN: "resume", Command.PAUSE: "pause", Command.CANCEL: "cancel"}
