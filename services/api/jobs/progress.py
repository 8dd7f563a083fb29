"""How far running jobs are, and how long what they do will take."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from services.api.sql.database import Database
from services.api.sql.tables import EventRow, JobRow
from services.contracts.events import Kind
from services.contracts.states import JobState
from services.presentation.pace import RECENT, Pace, Progress

_KINDS = (Kind.PHASE.value, Kind.METRICS.value, Kind.STATE.value)
_READ = 6 * RECENT
"""Newest events that are looked at: between two batches stand few others."""


async def progress_of(database: Database, jobs: Iterable[JobRow]) -> dict[str, Progress]:
    """Return the progress by id of the jobs that run and whose events say how far they are."""
    found: dict[str, Progress] = {}
    for job in jobs:
        if job.state == JobState.RUNNING:
            progress = await _progress(database, job)
            if progress is not None:
                found[job.id] = progress
    return found


async def _progress(database: Database, job: JobRow) -> Progress | None:
    query = (
        select(EventRow)
        .where(EventRow.job_id == job.id, EventRow.kind.in_(_KINDS))
        .order_by(EventRow.ms.desc(), EventRow.seq.desc())
        .limit(_READ)
    )
    async with database.read() as session:
        newest = (await session.scalars(query)).all()
    pace = Pace(job.total_batches)
    for event in reversed(newest):
        pace.hear(event.kind, event.at_unix_s, event.data)
    return pace.progress
