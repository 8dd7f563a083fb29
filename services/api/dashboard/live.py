"""Sends an open page the changes since the last event that it has, at most once a second."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from typing import TypeVar

from fastapi.sse import ServerSentEvent

from services.api.dashboard.curves import held_out, point
from services.api.dashboard.rendering import fragment
from services.api.http.app_parts import Container
from services.api.jobs import queries as jobs
from services.api.jobs.job_view import job_view
from services.api.jobs.listing import JobList, listed
from services.api.jobs.progress import progress_of
from services.api.rest.caller import Caller
from services.api.sql.tables import EventRow
from services.api.sync import feed
from services.api.sync.event_bus import Follower
from services.api.sync.stream_ids import stream_position
from services.contracts.events import Kind

T = TypeVar("T")
LOOK_S = 1.0
"""Shortest time between two looks at SQL for one page."""


async def job_updates(
    parts: Container, caller: Caller, job_id: str, after: str
) -> AsyncGenerator[ServerSentEvent, None]:
    """Server-sent events of a job's page: `points`, `evaluations`, `warnings` and `head` as HTML; `end` is the last."""
    position = stream_position(after)
    with parts.news.follow(job_id) as follower:
        while not follower.over:
            ended, rows = await _whole(feed.stored_events(parts.database, job_id, position))
            if rows:
                position = rows[-1].position
                for name, content in _news(rows):
                    yield message(name, content)
                if any(row.kind == Kind.WARNING for row in rows):
                    warnings = await _whole(feed.warnings(parts.database, job_id))
                    yield message("warnings", fragment("macros.html", "warning_list", warnings))
                job = await _whole(jobs.find(parts.database, caller, job_id))
                progress = await _whole(progress_of(parts.database, [job]))
                head = fragment("macros.html", "job_head", job_view(job), progress.get(job_id))
                yield message("head", head, rows[-1].stream_id)
            if len(rows) == feed.PAGE:
                continue
            if ended:
                yield message("end", None)
                return
            await _next_look(follower)


async def list_updates(parts: Container, caller: Caller, asked: JobList) -> AsyncGenerator[ServerSentEvent, None]:
    """Server-sent events of the list of jobs: `row` for one that changed, `rows` at first and when others are in it,
    `total` with how many there are."""
    shown: dict[str, str] = {}
    total = 0
    with parts.news.follow("") as follower:  # it follows no job: it hears the end of the process alone
        while not follower.over:
            found = await _whole(listed(parts.database, caller, asked))
            progress = await _whole(progress_of(parts.database, found.rows))
            now = {
                row.id: fragment("macros.html", "job_row", job_view(row), progress.get(row.id)) for row in found.rows
            }
            if found.total != total:
                total = found.total
                yield message("total", total)
            if list(now) != list(shown):
                yield message("rows", "".join(now.values()))
            else:
                for job_id, html in now.items():
                    if html != shown[job_id]:
                        yield message("row", {"id": f"row-{job_id}", "html": html})
            shown = now
            await _next_look(follower)


def message(name: str, content: object, id_: str | None = None) -> ServerSentEvent:
    """One server-sent event with JSON in it, null too: browsers do not hear of an event without data."""
    return ServerSentEvent(raw_data=json.dumps(content), event=name, id=id_)


def _news(rows: Sequence[EventRow]) -> list[tuple[str, object]]:
    points = [point({"at_unix_s": row.at_unix_s, **row.data}) for row in rows if row.kind == Kind.METRICS]
    evaluations = held_out([row.data for row in rows if row.kind == Kind.EVALUATION])
    return [(name, found) for name, found in (("points", points), ("evaluations", evaluations)) if found]


async def _next_look(follower: Follower) -> None:
    """Wait `LOOK_S`; return early when the process ends."""
    began = time.monotonic()
    await follower.listen(LOOK_S)
    if not follower.over:
        await asyncio.sleep(max(LOOK_S - (time.monotonic() - began), 0.0))


async def _whole(asking: Coroutine[object, None, T]) -> T:
    """Finish a query to SQL: a viewer that goes away in the middle of it must not take the connection along."""
    return await asyncio.shield(asyncio.create_task(asking))
