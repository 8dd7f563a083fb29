"""What the services say of a job, from its event stream into SQL: each event once, whatever dies in between.

An event's row, what it changes of its job, and the position in the stream are one transaction.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import or_, select
from structlog.stdlib import BoundLogger

from services.api.database import Database
from services.api.states import TERMINAL, JobState, Wish, follows
from services.api.stream_ids import stream_position
from services.api.tables import EventRow, JobRow
from services.contracts import keys
from services.contracts.messages import ContractError, JobEvent, decode
from services.kit.streams import FIELD

BLOCK_MS = 200
"""Longest wait of one read; a job submitted meanwhile is seen after it."""
READ_COUNT = 200
LINGER_S = 60.0
"""An ended job's stream is read so much longer: a summary may follow the last state."""
_ERROR_CHARACTERS = 4_000

Entries = list[tuple[bytes, dict[bytes, bytes]]]


class Observer:
    """One loop over the streams of all jobs that have not ended."""

    def __init__(self, redis: Redis, database: Database, log: BoundLogger) -> None:
        self._redis, self._database, self._log = redis, database, log
        self._news = asyncio.Condition()
        self._closing = False

    async def close(self) -> None:
        """The process drains: let everybody who waits go."""
        self._closing = True
        async with self._news:
            self._news.notify_all()

    async def run(self) -> None:
        """For ever; a Redis that does not answer is asked again."""
        while True:
            try:
                if not await self.observe():
                    await asyncio.sleep(BLOCK_MS / 1_000)
            except (RedisError, OSError) as error:
                self._log.warning("observe_later", error=repr(error))
                await asyncio.sleep(1.0)

    async def wait_for_news(self, timeout_s: float) -> bool:
        """Until something was stored, or `timeout_s` passed; look at SQL after either. False: wait no more."""

        async def wait() -> None:
            async with self._news:
                await self._news.wait()

        if not self._closing:
            with suppress(TimeoutError):
                await asyncio.wait_for(wait(), timeout_s)
        return not self._closing

    async def observe(self) -> bool:
        """Store what is new. False: there is no job to listen to."""
        positions = await self._positions()
        if not positions:
            return False
        streams = {keys.events_stream(job): position for job, position in positions.items()}
        answer = await self._redis.xread(cast("dict[Any, Any]", streams), count=READ_COUNT, block=BLOCK_MS)
        jobs = {keys.events_stream(job).encode(): job for job in positions}
        stored = False
        for stream, entries in _by_stream(answer):
            await self._store(jobs[stream], entries)
            stored = True
        if stored:
            async with self._news:
                self._news.notify_all()
        return True

    async def _positions(self) -> dict[str, str]:
        async with self._database.read() as session:
            newest = select(JobRow.id, JobRow.event_id)
            over = [state.value for state in TERMINAL]
            lately = JobRow.finished_unix_s > time.time() - LINGER_S
            rows = await session.execute(newest.where(or_(JobRow.state.not_in(over), lately)))
            return {job: position for job, position in rows}

    async def _store(self, job_id: str, entries: Entries) -> None:
        async with self._database.write() as session:
            job = await session.get_one(JobRow, job_id, with_for_update=True)
            after = stream_position(job.event_id)
            for raw_id, fields in entries:
                ms, seq = stream_position(raw_id.decode())
                if (ms, seq) <= after:  # another API process stored it since the read
                    continue
                event = self._event(job_id, raw_id, fields)
                session.add(
                    EventRow(job_id=job_id, ms=ms, seq=seq, kind=event.kind, at_unix_s=event.at_unix_s, data=event.data)
                )
                self._apply(job, event)
                job.event_id = raw_id.decode()

    def _event(self, job_id: str, raw_id: bytes, fields: dict[bytes, bytes]) -> JobEvent:
        try:
            event = decode(fields.get(FIELD, b""), JobEvent)
            return JobEvent(kind=event.kind[:16], at_unix_s=event.at_unix_s, data=_finite(event.data))
        except ContractError as error:
            self._log.warning("event_unreadable", job=job_id, id=raw_id.decode(), error=str(error))
            return JobEvent(kind="warning", at_unix_s=time.time(), data={"message": f"unreadable event: {error}"})

    def _apply(self, job: JobRow, event: JobEvent) -> None:
        if event.kind == "state":
            self._apply_state(job, event)
        elif event.kind == "phase":
            job.phase = str(event.data.get("phase", ""))[:64] or None
        elif event.kind == "metrics":
            job.metrics = event.data
        elif event.kind == "summary":
            job.summary = event.data

    def _apply_state(self, job: JobRow, event: JobEvent) -> None:
        try:
            observed = JobState(str(event.data.get("state")))
        except ValueError:
            self._log.warning("state_unknown", job=job.id, state=repr(event.data.get("state")))
            return
        if not follows(JobState(job.state), observed):
            self._log.info("state_ignored", job=job.id, state=job.state, observed=observed.value)
            return
        job.state = observed.value
        if observed == JobState.RUNNING and job.started_unix_s is None:
            job.started_unix_s = event.at_unix_s
        if observed == JobState.PAUSED and job.wish == Wish.RUN:
            job.dispatch_wanted += 1  # resumed before the pause was reached: start it again
        if observed in TERMINAL:
            job.finished_unix_s, job.phase = event.at_unix_s, None
        if observed == JobState.FAILED:
            job.error = str(event.data.get("error") or "the job failed without a word")[:_ERROR_CHARACTERS]


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return value


def _by_stream(answer: Any) -> Sequence[tuple[bytes, Entries]]:
    if isinstance(answer, dict):  # RESP3: {stream: [entries]}, wrapped once more
        return [
            (name, entries[0] if entries and isinstance(entries[0], list) else entries)
            for name, entries in answer.items()
        ]
    return answer or []
