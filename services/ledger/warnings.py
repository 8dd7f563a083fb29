"""Warnings to the owner of a job: every time, once per topic, or at the 1st, 2nd, 4th... occurrence of one cause.

A value of the wrong type under a key is set aside, so that it neither hides a warning nor stops the work.
"""

from __future__ import annotations

import time

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.contracts import keys
from services.contracts.events import LONGEST_MESSAGE, Warned, cause_key, encoded
from services.kit.dead_letters import set_key_aside
from services.kit.streams import append
from services.kit.values import add_member, string_value, text_members

log = structlog.get_logger("ledger")

MOST_CAUSES = 100
"""Distinct causes that are counted apart; what comes beyond them is counted together."""
KEEP_S = 7 * 86_400
"""A job's causes are forgotten a week after the last one."""
_OTHERS = "others"


class Warnings:
    """Warnings of one service, as events of the jobs.

    Args:
        service: which service warns.
    """

    def __init__(self, redis: Redis, service: str) -> None:
        self._redis, self._service = redis, service
        self._told: set[tuple[str, str]] = set()

    async def warn(self, job: str, message: str, *, count: int = 1) -> None:
        """Publish a warning. Raises RedisError.

        Args:
            count: how often it happened so far.
        """
        event = Warned(service=self._service, message=message, count=count)
        await append(self._redis, keys.events_stream(job), encoded(event))

    async def once(self, job: str, topic: str, message: str) -> None:
        """Publish a warning unless some process published one of this topic; two at once may both do it.

        Raises:
            RedisError: the warning was not published; the next call tries again.
        """
        if (job, topic) in self._told:
            return
        self._told.add((job, topic))
        try:
            await self._publish_once(job, topic, message)
        except Exception:
            self._told.discard((job, topic))
            raise

    async def count(self, job: str, cause: str) -> None:
        """Count a cause, and publish a warning at the 1st, 2nd, 4th, 8th... time: one line of a list, however often.

        A Redis that does not answer is logged: nobody's work ends because a cause could not be counted.
        """
        cause = cause[:LONGEST_MESSAGE]
        try:
            count = await self._counted(job, f"{self._service}: {cause_key(cause)}")
            last = msgspec.json.encode([time.time(), cause])
            await self._redis.set(keys.last_trouble(job), last, ex=KEEP_S)
            if count & (count - 1) == 0:
                await self.warn(job, cause, count=count)
        except (RedisError, OSError) as error:
            log.error("a cause could not be counted", job=job, cause=cause, error=repr(error))

    async def last_cause(self, job: str, since_unix_s: float) -> str | None:
        """The newest counted cause, of any service; None: there is none since that instant."""
        raw = await string_value(self._redis, keys.last_trouble(job))
        try:
            at_unix_s, cause = msgspec.json.decode(raw or b"", type=tuple[float, str])
        except (ValueError, RecursionError):  # there is none, or it is none
            return None
        return cause if at_unix_s >= since_unix_s else None

    async def _publish_once(self, job: str, topic: str, message: str) -> None:
        known = keys.warned(job)
        if topic not in await text_members(self._redis, known):
            await self.warn(job, message)
            await add_member(self._redis, known, topic)  # noted after it: twice is better than never

    async def _counted(self, job: str, key: str) -> int:
        """How often the cause, or all that are not counted apart, happened by now."""
        counts = keys.troubles(job)
        await set_key_aside(self._redis, counts, "hash")
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hincrby(counts, key, 1)
            pipe.hlen(counts)
            pipe.expire(counts, KEEP_S)
            count, causes, _ = await pipe.execute()
        if count == 1 and causes > MOST_CAUSES:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hdel(counts, key)
                pipe.hincrby(counts, _OTHERS, 1)
                _, count = await pipe.execute()
        return int(count)
