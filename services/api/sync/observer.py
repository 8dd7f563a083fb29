"""Stores the events of each job's stream in SQL, each exactly once in spite of crashes.

An event's row, what it changes of its job, and the position in the stream are one transaction.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import or_, select
from sqlalchemy.orm import defer
from structlog.stdlib import BoundLogger

from services.api.sql.database import Database
from services.api.sql.tables import EventRow, JobRow
from services.api.sync.event_bus import News, Told
from services.api.sync.stream_ids import Position, stream_position
from services.contracts import keys
from services.contracts.events import BatchTrained, PhaseBegan, StateReached, Summarized, Warned, job_event, read
from services.contracts.messages import JobEvent, decode
from services.contracts.states import TERMINAL, Command, JobState, follows
from services.kit.dead_letters import is_wrong_type, set_entry_aside, set_key_aside
from services.kit.streams import RawEntry, payload_of, read_streams
from services.ledger.active_jobs import active_jobs
from services.ledger.warnings import Warnings

BLOCK_MS = 200
"""Longest wait of one read; a job submitted meanwhile is seen after it."""
GATHER_S = 0.02
"""Pause after news, seconds: events that come together are stored together."""
READ_COUNT = 200
TURN = 500
"""Streams of quiet jobs in one read; the others have their turn in the next reads."""
LINGER_S = 60.0
"""An ended job's stream is read so much longer: a summary may follow the last state."""
_ERROR_CHARACTERS, _PHASE_CHARACTERS = 4_000, 64
"""Lengths of their columns."""
_UNREAD = [defer(JobRow.spec), defer(JobRow.environment), defer(JobRow.summary), defer(JobRow.metrics)]
"""Columns that no event's effect depends on."""


class Observer:
    """One loop over the streams of all jobs that have not ended: jobs at work in every read, the quiet ones in turn."""

    def __init__(self, redis: Redis, database: Database, news: News, log: BoundLogger) -> None:
        self._redis, self._database, self._news, self._log = redis, database, news, log
        self._expected: set[str] = set()
        self._refused: list[tuple[str, str, str]] = []
        """Job, entry and cause of what was read and is no event."""
        self._turn, self._next_turn = "", 0.0

    async def run(self) -> None:
        """Store events without end; a Redis that does not answer is asked again."""
        while True:
            try:
                if not await self.observe():
                    await asyncio.sleep(BLOCK_MS / 1_000)
            except (RedisError, OSError) as error:
                self._log.warning("observe_later", error=repr(error))
                await asyncio.sleep(1.0)

    def expect(self, job_ids: Iterable[str]) -> None:
        """Something was just told of these jobs: read their streams next."""
        self._expected.update(job_ids)

    async def observe(self) -> bool:
        """Store what is new. False: there is no job to listen to."""
        positions = await self._positions()
        if not positions:
            return False
        streams = {keys.events_stream(job): position for job, position in positions.items()}
        jobs = {keys.events_stream(job).encode(): job for job in positions}
        news = {jobs[stream]: entries for stream, entries in (await self._read(streams)).items()}
        if news:
            for job, told in (await self._store(news)).items():
                self._news.tell(job, told)
            await self._set_aside_refused()
            await asyncio.sleep(GATHER_S)
        return True

    async def _read(self, streams: Mapping[str, str]) -> dict[bytes, list[RawEntry]]:
        """New entries of the streams; a value of another type in a stream's place, which fails all, is set aside."""
        try:
            return await read_streams(self._redis, streams, READ_COUNT, block_ms=BLOCK_MS)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            for stream in streams:
                await set_key_aside(self._redis, stream, "stream")
            return {}

    async def _set_aside_refused(self) -> None:
        """Into the dead letters what is no event; a stream whose ids cannot be stored as a whole, since all that would
        follow in it has such ids too."""
        while self._refused:
            job, entry_id, cause = self._refused[0]
            stream = keys.events_stream(job)
            if _position(entry_id) is None:
                await set_key_aside(self._redis, stream, "")
                message = f"the events from {entry_id} on could not be stored"
                await Warnings(self._redis, "api").warn(job, message)
            else:
                await set_entry_aside(self._redis, stream, entry_id, cause)
            self._refused.pop(0)

    async def _positions(self) -> dict[str, str]:
        """Job -> how far its stream is stored, for the next read."""
        at_work = await active_jobs(self._redis)
        expected = [self._expected.pop() for _ in range(min(TURN, len(self._expected)))]
        columns = select(JobRow.id, JobRow.event_id)
        over = [state.value for state in TERMINAL]
        listening = or_(JobRow.state.not_in(over), JobRow.finished_unix_s > time.time() - LINGER_S)
        busy = or_(JobRow.state == JobState.RUNNING.value, JobRow.id.in_([*expected, *islice(at_work, TURN)]))
        async with self._database.read() as session:
            found = [*await session.execute(columns.where(listening, busy))]
            if time.monotonic() >= self._next_turn:
                self._next_turn = time.monotonic() + BLOCK_MS / 1_000
                quiet = columns.where(listening, JobRow.id > self._turn).order_by(JobRow.id).limit(TURN)
                in_turn = (await session.execute(quiet)).all()
                self._turn = in_turn[-1].id if len(in_turn) == TURN else ""
                found += in_turn
        return {job: position for job, position in found}

    async def _store(self, news: Mapping[str, Sequence[RawEntry]]) -> dict[str, Told]:
        """Store the entries, and what they change of their jobs; what was new, by job."""
        told: dict[str, Told] = {}
        async with self._database.write() as session:
            query = select(JobRow).where(JobRow.id.in_(news)).options(*_UNREAD).order_by(JobRow.id).with_for_update()
            for job in (await session.scalars(query)).all():
                after = stream_position(job.event_id)
                told[job.id] = Told(after, self._new_events(job, news[job.id]))
                session.add_all(told[job.id].events)
        return told

    def _new_events(self, job: JobRow, entries: Sequence[RawEntry]) -> list[EventRow]:
        """Rows of the entries that are not stored yet; what they change of the job is changed."""
        rows, after = [], stream_position(job.event_id)
        for raw_id, fields in entries:
            entry_id = raw_id.decode()
            position = _position(entry_id)
            if position is None:
                self._refused.append((job.id, entry_id, "its id cannot be stored"))
                break
            if position <= after:  # another API process stored it since the read
                continue
            event = self._event(job.id, entry_id, fields)
            ms, seq = position
            rows.append(
                EventRow(job_id=job.id, ms=ms, seq=seq, kind=event.kind, at_unix_s=event.at_unix_s, data=event.data)
            )
            self._apply(job, event)
            job.event_id = entry_id
        return rows

    def _event(self, job_id: str, entry_id: str, fields: Mapping[bytes, bytes]) -> JobEvent:
        try:
            event = decode(payload_of(fields), JobEvent)
            if not math.isfinite(event.at_unix_s):
                raise ValueError(f"at_unix_s: want a time, got {event.at_unix_s}")
            return JobEvent(kind=_text(event.kind[:16]), at_unix_s=event.at_unix_s, data=_object(event.data))
        except (ValueError, RecursionError) as error:  # ContractError and MalformedEntry are ValueErrors
            self._log.warning("event_unreadable", job=job_id, id=entry_id, error=str(error))
            self._refused.append((job_id, entry_id, str(error)))
            return job_event(Warned(service="api", message=f"unreadable event: {error}"))

    def _apply(self, job: JobRow, event: JobEvent) -> None:
        match read(event.kind, event.data):
            case StateReached() as reached:
                self._apply_state(job, reached, event.at_unix_s)
            case PhaseBegan() as began:
                job.phase = _phase(began)[:_PHASE_CHARACTERS] or None
            case BatchTrained(record=record):
                job.metrics = dict(record)
            case Summarized(summary=summary):
                job.summary = dict(summary)
            case None:
                self._log.warning("event_unknown", job=job.id, kind=event.kind, data=repr(event.data)[:200])

    def _apply_state(self, job: JobRow, reached: StateReached, at_unix_s: float) -> None:
        observed = reached.state
        if not follows(JobState(job.state), observed, given_back=reached.reason is not None):
            self._log.info("state_ignored", job=job.id, state=job.state, observed=observed.value)
            return
        job.state = observed.value
        if observed == JobState.RUNNING and job.started_unix_s is None:
            job.started_unix_s = at_unix_s
        if observed == JobState.PAUSED and job.command == Command.RUN:
            job.dispatch_wanted += 1  # resumed before the pause was reached: start it again
        if observed in TERMINAL:
            job.finished_unix_s, job.phase = at_unix_s, None
        if observed == JobState.FAILED:
            job.error = (reached.error or "the job failed without an error message")[:_ERROR_CHARACTERS]


def _phase(began: PhaseBegan) -> str:
    """The columns that lists of jobs show: the phase, and of a job that waits its place."""
    before = began.detail.get("before")
    return f"{began.phase}, {before} before it" if before and isinstance(before, int) else began.phase


def _storable(value: object) -> object:
    """The value with null for numbers that JSON cannot hold, and text without NUL, which PostgreSQL cannot."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return _object(value)
    if isinstance(value, list):
        return [_storable(inner) for inner in value]
    return value if value is None or isinstance(value, int) else _text(repr(value))


def _object(value: Mapping[str, object]) -> dict[str, object]:
    return {_text(str(name)): _storable(inner) for name, inner in value.items()}


def _text(value: str) -> str:
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _position(entry_id: str) -> Position | None:
    """None: the id lies beyond what a row can hold."""
    try:
        return stream_position(entry_id)
    except ValueError:
        return None
