"""Annotations of a job by users: its name, tags, notes, and whether it is archived."""

from __future__ import annotations

from services.api.jobs.job_view import job_detail
from services.api.rest.caller import Caller
from services.api.rest.problems import Problem, not_found
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.contracts.rest.jobs import JobChanges, JobDetail
from services.contracts.states import TERMINAL


async def annotate(database: Database, caller: Caller, job_id: str, changes: JobChanges) -> JobDetail:
    """Change what is given and nothing else. Raises Problem 404, or 409 to archive a job that has not ended."""
    async with database.seen_by(caller).write() as session:
        row = await session.get(JobRow, job_id, with_for_update=True)
        if row is None:
            raise not_found("job", job_id)
        given = changes.model_fields_set
        if "archived" in given:
            if changes.archived and row.state not in TERMINAL:
                raise Problem(409, f"cannot archive job {job_id}: want a job that has ended, got state {row.state}")
            row.archived = changes.archived
        if "name" in given:
            row.name = changes.name
            row.spec = {**row.spec, "name": changes.name}  # a retry is called as its job is called now
        if "tags" in given:
            row.tags = changes.tags
        if "notes" in given:
            row.notes = changes.notes or None
        return job_detail(row)
