"""What goes wrong with a job while it is played: counted in Redis by cause, told to its owner, known to its trainer."""

from __future__ import annotations

import time

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.contracts import keys
from services.contracts.events import LONGEST_MESSAGE, Warned, cause_key, encoded
from services.kit.streams import append
from services.kit.values import drop_field, hash_value, string_value, texts

log = structlog.get_logger("ledger")

MOST_CAUSES = 100
"""Distinct causes that are counted apart; what comes beyond them is counted together."""
KEEP_S = 7 * 86_400
"""A job's causes are forgotten a week after the last one."""
_OTHERS = "others"


class Troubles:
    """Causes of trouble, from one service.

    Args:
        service: which service tells them.
    """

    def __init__(self, redis: Redis, service: str) -> None:
        self._redis, self._service = redis, service

    async def note(self, job: str, cause: str) -> None:
        """Count a cause. The owner is told at the 1st, 2nd, 4th, 8th... time: one line of a list, however often.

        A Redis that does not answer is logged: nobody's work ends because it could not be complained about.
        """
        cause = cause[:LONGEST_MESSAGE]
        try:
            count = await self._count(job, f"{self._service}: {cause_key(cause)}")
            last = msgspec.json.encode([time.time(), cause])
            await self._redis.set(keys.last_trouble(job), last, ex=KEEP_S)
            if count & (count - 1) == 0:
                event = Warned(service=self._service, message=cause, count=count)
                await append(self._redis, keys.events_stream(job), encoded(event))
        except (RedisError, OSError) as error:
            log.error("a cause could not be told", job_id=job, cause=cause, error=repr(error))

    async def last(self, job: str, since_unix_s: float) -> str | None:
        """The newest cause, of any service; None: there is none since that instant."""
        raw = await string_value(self._redis, keys.last_trouble(job))
        try:
            at_unix_s, cause = msgspec.json.decode(raw or b"", type=tuple[float, str])
        except msgspec.DecodeError:  # there is none
            return None
        return cause if at_unix_s >= since_unix_s else None

    async def _count(self, job: str, key: str) -> int:
        counts = keys.troubles(job)
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


async def refuse_job(redis: Redis, job: str, worker: str, cause: str) -> None:
    """A rollout worker says that the job's own files and settings make it unplayable."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hset(keys.playing_refusals(job), worker, cause[:LONGEST_MESSAGE])
        pipe.expire(keys.playing_refusals(job), KEEP_S)
        await pipe.execute()


async def accept_job(redis: Redis, job: str, worker: str) -> None:
    """The worker plays the job: whatever it said before is over."""
    await drop_field(redis, keys.playing_refusals(job), worker)


async def why_unplayable(redis: Redis, job: str) -> str | None:
    """The cause, where every live rollout worker refused the job; None: one may play it."""
    refusals = await hash_value(redis, keys.playing_refusals(job))
    if not refusals:
        return None
    refused = {keys.service_heartbeat("rollout", worker) for worker in texts(refusals)}
    pattern = keys.service_heartbeat("rollout", "*")
    live = {name.decode() async for name in redis.scan_iter(pattern, count=1_000)}
    return None if live - refused else next(iter(refusals.values())).decode(errors="replace")
