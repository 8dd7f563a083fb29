"""What the user of a job is told while it is played: each warning once a job, however many workers play it."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import cast

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import JobEvent, encode
from services.kit.streams import FIELD


class JobWarnings:
    """Warnings of one job, as events."""

    def __init__(self, redis: Redis, job_id: str) -> None:
        self._redis, self._job_id = redis, job_id
        self._told: set[str] = set()

    async def once(self, topic: str, message: str) -> None:
        """Publish a warning unless some worker published one of this topic; two workers at once may both do it."""
        if topic in self._told:
            return
        self._told.add(topic)
        try:
            await self._tell(topic, message)
        except Exception:
            self._told.discard(topic)
            raise

    async def _tell(self, topic: str, message: str) -> None:
        known = keys.warned(self._job_id)
        if await cast(Awaitable[int], self._redis.sismember(known, topic)):
            return
        event = JobEvent(kind="warning", at_unix_s=time.time(), data={"service": "rollout", "message": message})
        await self._redis.xadd(keys.events_stream(self._job_id), {FIELD: encode(event)})
        await self._redis.sadd(known, topic)  # after it: better told twice than never
