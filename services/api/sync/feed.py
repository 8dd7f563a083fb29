"""A job's stored events: as they come, metrics and evaluations."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, Sequence

from sqlalchemy import String, cast, select, tuple_

from services.api.sql.database import Database
from services.api.sql.tables import EventRow, JobRow
from services.api.sync.event_bus import News, Told
from services.api.sync.stream_ids import Position, stream_position
from services.contracts.events import Kind, RepeatedWarning, summarized
from services.contracts.states import TERMINAL

Row = dict[str, object]
"""JSON values by column."""
PAGE = 500
POLL_S = 1.0
"""Another process may have stored the news, so SQL is looked at once a second anyway."""
MOST_WARNINGS = 50
WARNINGS_READ = 2_000
"""Events of warnings that are looked through for distinct ones."""


async def followed_events(
    database: Database, news: News, job_id: str, after: str, *, kind: str | None = None, wait: bool = True
) -> AsyncGenerator[EventRow, None]:
    """The job's events later than stream id `after`, those of one kind or all; ends when the job has ended, or without
    `wait` behind the newest event."""
    position = stream_position(after)
    with news.follow(job_id) as follower:
        while True:
            # a task of its own: who goes away in the middle of it must not take the connection along
            ended, stored = await asyncio.shield(asyncio.create_task(stored_events(database, job_id, position)))
            for row in stored:
                position = row.position
                if kind in (None, row.kind):
                    yield row
            if len(stored) == PAGE:
                continue
            if ended or not wait:
                return
            while told := _continued(await follower.listen(POLL_S), position):
                for row in told:
                    position = row.position
                    if kind in (None, row.kind):
                        yield row
                if any(row.kind == Kind.STATE for row in told):
                    break  # the job may have ended; SQL knows
            if follower.over:
                return


async def awaited_events(
    database: Database, news: News, job_id: str, after: str, *, wait_s: float
) -> tuple[bool, Sequence[EventRow]]:
    """The answer of `stored_events` after stream id `after`; it waits up to `wait_s` for a first event."""
    position, deadline = stream_position(after), asyncio.get_running_loop().time() + wait_s
    with news.follow(job_id) as follower:
        while True:
            ended, rows = await asyncio.shield(asyncio.create_task(stored_events(database, job_id, position)))
            left_s = deadline - asyncio.get_running_loop().time()
            if rows or ended or left_s <= 0 or follower.over:
                return ended, rows
            await follower.listen(min(POLL_S, left_s))


def _continued(told: Sequence[Told], position: Position) -> list[EventRow]:
    """The events after `position`, as far as they follow on it without a gap; SQL has what is beyond one."""
    rows: list[EventRow] = []
    for one in told:
        if one.after > position:
            break
        rows += [row for row in one.events if row.position > position]
        position = rows[-1].position if rows else position
    return rows


async def stored_events(database: Database, job_id: str, position: Position) -> tuple[bool, Sequence[EventRow]]:
    """Whether the job has ended, and at most `PAGE` events after the position."""
    query = (
        select(EventRow)
        .where(EventRow.job_id == job_id, tuple_(EventRow.ms, EventRow.seq) > position)
        .order_by(EventRow.ms, EventRow.seq)
        .limit(PAGE)
    )
    async with database.read() as session:
        state = await session.scalar(select(JobRow.state).where(JobRow.id == job_id))  # first: no event follows an end
        rows = (await session.scalars(query)).all()
    return state is None or state in TERMINAL, rows


async def metrics(database: Database, job_id: str) -> list[Row]:
    """One row a batch in order of batch; a batch that was trained again after a crash counts once, the last time."""
    rows = await events_of(database, job_id, [Kind.METRICS])
    by_batch = {row.data.get("batch"): {"at_unix_s": row.at_unix_s, **row.data} for row in rows}
    return sorted(by_batch.values(), key=_batch)


def _batch(row: Row) -> float:
    batch = row.get("batch")
    return batch if isinstance(batch, int | float) else 0


async def evaluations(database: Database, job_id: str) -> list[Row]:
    """List evaluations in order of time; an evaluation that was repeated after a crash counts once, the last time."""
    rows = await events_of(database, job_id, [Kind.EVALUATION])
    return list({(row.data.get("label"), row.data.get("version")): row.data for row in rows}.values())


async def warnings(database: Database, job_id: str) -> list[RepeatedWarning]:
    """The newest first, at most `MOST_WARNINGS`; those that differ in ids and numbers alone are one with a count."""
    query = select(EventRow).where(EventRow.job_id == job_id, EventRow.kind == Kind.WARNING.value)
    async with database.read() as session:
        newest = query.order_by(EventRow.ms.desc(), EventRow.seq.desc()).limit(WARNINGS_READ)
        rows = (await session.scalars(newest)).all()
    return summarized((row.at_unix_s, row.data) for row in reversed(rows))[:MOST_WARNINGS]


async def events_of(database: Database, job_id: str, kinds: Sequence[str]) -> list[EventRow]:
    """All events of these kinds, the oldest first."""
    query = (
        select(EventRow)
        .where(EventRow.job_id == job_id, EventRow.kind.in_([str(kind) for kind in kinds]))
        .order_by(EventRow.ms, EventRow.seq)
    )
    async with database.read() as session:
        return list((await session.scalars(query)).all())


async def newest_events(
    database: Database,
    job_id: str,
    kinds: Sequence[str],
    *,
    text: str = "",
    before: Position | None = None,
    limit: int = PAGE,
) -> list[EventRow]:
    """At most `limit` events of these kinds, the newest first: those whose data hold the text, in any case, and that
    are older than the position."""
    query = select(EventRow).where(EventRow.job_id == job_id, EventRow.kind.in_(kinds))
    if text:
        query = query.where(cast(EventRow.data, String).icontains(text, autoescape=True))
    if before is not None:
        query = query.where(tuple_(EventRow.ms, EventRow.seq) < before)
    async with database.read() as session:
        newest = query.order_by(EventRow.ms.desc(), EventRow.seq.desc()).limit(limit)
        return list((await session.scalars(newest)).all())


def as_csv(rows: list[Row]) -> str:
    """Rows of one or more sets of columns as CSV with a header; a missing value is an empty cell."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    columns.sort(key=lambda column: column != "batch")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
