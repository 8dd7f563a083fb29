"""What the job's owner is told, as `JobEvent`s."""

from __future__ import annotations

import time
from typing import Any, Literal, cast

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.events import Body, StateReached, Warned, encoded, job_event
from services.contracts.messages import JobEvent, decode, encode
from services.kit.streams import RawEntry, append, payload_of


class Events:
    """The event stream of one job. Every event may be told twice; readers take the last word."""

    def __init__(self, redis: Redis, job: str) -> None:
        self._redis, self._stream = redis, keys.events_stream(job)
        self._told: set[str] = set()

    async def tell(self, kind: Literal["phase", "metrics", "evaluation", "summary"], data: dict[str, Any]) -> None:
        """Append one event whose content is the kind's own: `phase`, `metrics`, `evaluation`, `summary`."""
        await append(self._redis, self._stream, encode(JobEvent(kind=kind, at_unix_s=time.time(), data=data)))

    async def add(self, body: Body) -> None:
        """Append one event whose content is typed."""
        await append(self._redis, self._stream, encoded(body))

    async def state(self, state: str, error: str | None = None) -> None:
        """RUNNING, PAUSED, SUCCEEDED, FAILED (with its sentence) or CANCELLED."""
        await self.add(StateReached(state=state, error=error))

    async def queued(self, reason: str) -> None:
        """QUEUED again, with the reason; not told a second time while nothing else happened."""
        event = StateReached(state="QUEUED", reason=reason)
        if await self._last() != job_event(event).data:
            await self.phase("waiting", reason=reason)
            await self.add(event)

    async def _last(self) -> dict[str, Any] | None:
        newest = cast("list[RawEntry]", await self._redis.xrevrange(self._stream, count=1))
        try:
            return decode(payload_of(newest[0][1]), JobEvent).data
        except (ValueError, LookupError):  # nothing yet, or an entry that is no event
            return None

    async def phase(self, phase: str, **detail: Any) -> None:
        """What the job is doing: waiting, warmstart, publish, evaluation, training, replay, export."""
        await self.tell("phase", {"phase": phase, **detail})

    async def warn(self, message: str) -> None:
        """Something went wrong and the job goes on."""
        await self.add(Warned(service="trainer", message=message))

    async def warn_once(self, topic: str, message: str) -> None:
        """Warn, unless this object has warned of the topic before."""
        if topic not in self._told:
            self._told.add(topic)
            await self.warn(message)
