"""A job's stored events: the server-sent feed, metrics and evaluations."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from sqlalchemy import select, tuple_

from services.api.database import Database
from services.api.states import TERMINAL
from services.api.stream_ids import stream_position
from services.api.tables import EventRow, JobRow

PAGE = 500
POLL_S = 1.0
"""Another process may have stored the news, so SQL is looked at once a second anyway."""
KEEPALIVE_POLLS = 15


async def server_sent_events(
    database: Database,
    job_id: str,
    after: str,
    wait_for_news: Callable[[float], Awaitable[bool]],
    *,
    kind: str | None = None,
) -> AsyncIterator[bytes]:
    """The job's events later than stream id `after` as server-sent events, those of one kind or all; ends when the job
    has ended.

    Each has its stream id as `id`, its kind as `event`, and JSON {kind, at_unix_s, data} as `data`.
    """
    position, quiet = stream_position(after), 0
    while True:
        ended = await _has_ended(database, job_id)  # read before the rows, so that none is left behind
        while rows := await _rows(database, job_id, position, kind):
            for row in rows:
                yield _server_sent(row)
            position, quiet = (rows[-1].ms, rows[-1].seq), 0
        if ended:
            return
        if not await wait_for_news(POLL_S):
            return
        quiet += 1
        if quiet % KEEPALIVE_POLLS == 0:
            yield b": still here\n\n"


async def _has_ended(database: Database, job_id: str) -> bool:
    async with database.read() as session:
        state = await session.scalar(select(JobRow.state).where(JobRow.id == job_id))
    return state is None or state in TERMINAL


async def _rows(database: Database, job_id: str, position: tuple[int, int], kind: str | None) -> list[EventRow]:
    query = (
        select(EventRow)
        .where(EventRow.job_id == job_id, tuple_(EventRow.ms, EventRow.seq) > position)
        .order_by(EventRow.ms, EventRow.seq)
        .limit(PAGE)
    )
    if kind is not None:
        query = query.where(EventRow.kind == kind)
    async with database.read() as session:
        return list((await session.scalars(query)).all())


def _server_sent(row: EventRow) -> bytes:
    body = json.dumps({"kind": row.kind, "at_unix_s": row.at_unix_s, "data": row.data})
    return f"id: {row.stream_id}\nevent: {row.kind}\ndata: {body}\n\n".encode()


async def metrics(database: Database, job_id: str) -> list[dict[str, Any]]:
    """One row a batch in order of batch; a batch that was trained again after a crash counts once, the last time."""
    rows = await _of_kind(database, job_id, "metrics")
    by_batch = {row.data.get("batch"): {"at_unix_s": row.at_unix_s, **row.data} for row in rows}
    return sorted(by_batch.values(), key=lambda one: one.get("batch") or 0)


async def evaluations(database: Database, job_id: str) -> list[dict[str, Any]]:
    """In order of time; an evaluation that was repeated after a crash counts once, the last time."""
    rows = await _of_kind(database, job_id, "evaluation")
    return list({(row.data.get("label"), row.data.get("version")): row.data for row in rows}.values())


async def _of_kind(database: Database, job_id: str, kind: str) -> list[EventRow]:
    query = select(EventRow).where(EventRow.job_id == job_id, EventRow.kind == kind).order_by(EventRow.ms, EventRow.seq)
    async with database.read() as session:
        return list((await session.scalars(query)).all())


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows of one or more sets of columns as CSV with a header; a missing value is an empty cell."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    columns.sort(key=lambda column: column != "batch")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
