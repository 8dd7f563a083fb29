"""What the job's owner is told, as `JobEvent`s."""

from __future__ import annotations

import time
from typing import Any, cast

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import ContractError, JobEvent, decode, encode
from services.kit.streams import FIELD


class Events:
    """The event stream of one job. Every event may be told twice; readers take the last word."""

    def __init__(self, redis: Redis, job: str) -> None:
        self._redis, self._stream = redis, keys.events_stream(job)

    async def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Append one event."""
        event = JobEvent(kind=kind, at_unix_s=time.time(), data=data)
        await self._redis.xadd(self._stream, {FIELD: encode(event)})

    async def state(self, state: str, error: str | None = None) -> None:
        """RUNNING, PAUSED, SUCCEEDED, FAILED (with its sentence) or CANCELLED."""
        await self.tell("state", {"state": state, **({"error": error} if error else {})})

    async def queued(self, reason: str) -> None:
        """QUEUED again, with the reason; not told a second time while nothing else happened."""
        data = {"state": "QUEUED", "reason": reason}
        if await self._last() != data:
            await self.phase("waiting", reason=reason)
            await self.tell("state", data)

    async def _last(self) -> dict[str, Any] | None:
        newest = cast("list[tuple[bytes, dict[bytes, bytes]]]", await self._redis.xrevrange(self._stream, count=1))
        try:
            return decode(newest[0][1][FIELD], JobEvent).data
        except (ContractError, LookupError):  # none, or somebody else's
            return None

    async def phase(self, phase: str, **detail: Any) -> None:
        """What the job is doing: waiting, warmstart, publish, evaluation, training, replay, export."""
        await self.tell("phase", {"phase": phase, **detail})

    async def warn(self, message: str) -> None:
        """Something went wrong and the job goes on."""
        await self.tell("warning", {"service": "trainer", "message": message})
