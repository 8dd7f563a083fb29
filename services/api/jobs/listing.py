"""The list of jobs for people: searched by words, in any order, page after page, with how many there are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import defer

from services.api.jobs.queries import JobFilter
from services.api.rest.caller import Caller
from services.api.sql.database import Database
from services.api.sql.tables import JobRow

Order = Literal["created", "name", "state", "progress", "success", "environment", "seed", "duration"]


@dataclass(frozen=True)
class JobList:
    """The filter and order of a list of jobs."""

    wanted: JobFilter = field(default_factory=JobFilter)
    search: str = ""
    """Words; each must be in a job's name, id, tags, notes or environment, in any case."""
    order: Order = "created"
    descending: bool = True
    offset: int = 0
    limit: int = 50

    def conditions(self) -> list[ColumnElement[bool]]:
        """Write the filter as SQL."""
        columns = (JobRow.name, JobRow.id, JobRow.tag_line, JobRow.notes, JobRow.environment_id)
        words = [or_(*(one.icontains(word, autoescape=True) for one in columns)) for word in self.search.split()]
        return [*self.wanted.conditions(), *words]


@dataclass(frozen=True)
class Found:
    """A page of the list."""

    rows: Sequence[JobRow]
    total: int
    """Entries of all pages together."""


async def listed(database: Database, caller: Caller, asked: JobList) -> Found:
    """The jobs that the caller sees; what has no value in the order's column comes last. Specs are not loaded."""
    column = _column(asked.order)
    left_out = (JobRow.environment, JobRow.spec, JobRow.summary)
    query = (
        select(JobRow)
        .where(*asked.conditions())
        .options(*(defer(one, raiseload=True) for one in left_out))
        .order_by((column.desc() if asked.descending else column.asc()).nulls_last(), JobRow.id.desc())
        .offset(asked.offset)
        .limit(asked.limit)
    )
    async with database.seen_by(caller).read() as session:
        total = await session.scalar(select(func.count(JobRow.id)).where(*asked.conditions()))
        return Found((await session.scalars(query)).all(), total or 0)


def _column(order: Order) -> ColumnElement[Any]:
    ended: ColumnElement[float] = func.coalesce(JobRow.finished_unix_s, time.time())
    columns: dict[Order, ColumnElement[Any]] = {
        "created": JobRow.id.expression,
        "name": func.lower(func.coalesce(JobRow.name, JobRow.id)),
        "state": JobRow.state.expression,
        "progress": JobRow.metrics["version"].as_float(),
        "success": JobRow.metrics["success"].as_float(),
        "environment": JobRow.environment_id.expression,
        "seed": JobRow.seed.expression,
        "duration": ended - JobRow.started_unix_s,
    }
    return columns[order]
