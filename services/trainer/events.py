"""Publishes the trainer's `JobEvent`s to the job's owner."""

from __future__ import annotations

from typing import cast

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.events import AnyBody, Phase, PhaseBegan, StateReached, encoded, job_event
from services.contracts.messages import JobEvent, decode
from services.contracts.states import JobState
from services.kit.streams import RawEntry, append, payload_of
from services.ledger.ended_jobs import let_expire
from services.ledger.warnings import Warnings
from services.trainer.metrics import note


class Events:
    """The event stream of one job. Every event may be told twice; readers take the last word."""

    def __init__(self, redis: Redis, job: str) -> None:
        self._redis, self._job, self._stream = redis, job, keys.events_stream(job)
        self._warnings = Warnings(redis, "trainer")
        self._told: set[str] = set()

    async def add(self, body: AnyBody) -> None:
        """Append one event."""
        await append(self._redis, self._stream, encoded(body))
        note(self._job, body)

    async def state(self, state: JobState, error: str | None = None) -> None:
        """A state that the job reached, FAILED with its sentence; see `ended` for its last one."""
        await self.add(StateReached(state=state, error=error))

    async def ended(self, state: JobState, error: str | None = None) -> None:
        """The last word on the job; what it leaves in Redis goes after a while."""
        await self.state(state, error)
        await let_expire(self._redis, self._job)

    async def queued(self, reason: str) -> None:
        """QUEUED again, with the reason; not told a second time while nothing else happened."""
        event = StateReached(state=JobState.QUEUED, reason=reason)
        if await self._last() != job_event(event).data:
            await self.phase(Phase.WAITING, reason=reason)
            await self.add(event)

    async def _last(self) -> dict[str, object] | None:
        newest = cast("list[RawEntry]", await self._redis.xrevrange(self._stream, count=1))
        try:
            return decode(payload_of(newest[0][1]), JobEvent).data
        except (ValueError, LookupError):  # nothing yet, or an entry that is no event
            return None

    async def phase(self, phase: Phase, **detail: object) -> None:
        """The job's activity."""
        await self.add(PhaseBegan(phase=phase, detail=detail))

    async def warn(self, message: str) -> None:
        """Something went wrong and the job goes on."""
        await self._warnings.warn(self._job, message)

    async def warn_once(self, topic: str, message: str) -> None:
        """Warn, unless this object has warned of the topic before."""
        if topic not in self._told:
            self._told.add(topic)
            await self.warn(message)

    async def count(self, cause: str) -> None:
        """Something went wrong that may happen often: told at the 1st, 2nd, 4th... time."""
        await self._warnings.count(self._job, cause)

    async def last_cause(self, since_unix_s: float) -> str | None:
        """The newest cause that any service counted; None: there is none since that instant."""
        return await self._warnings.last_cause(self._job, since_unix_s)
