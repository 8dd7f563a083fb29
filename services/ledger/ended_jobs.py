"""Keys of an ended job in Redis expire after a while, so that Redis does not grow with the number of jobs."""

from __future__ import annotations

from redis.asyncio import Redis

from services.contracts import keys
from services.kit.dead_letters import dead_letters

KEEP_ENDED_S = 7 * 86_400
"""Long enough for an API that was away to store the last events, and for a late message of the job to be understood."""


def lasting_names(job: str) -> list[str]:
    """Every key of a job that stays when it ends, with its dead letters."""
    names = [key(job) for key in keys.LASTING]
    return [*names, *(dead_letters(name) for name in names)]


async def let_expire(redis: Redis, job: str) -> None:
    """The job has ended: its keys go after `KEEP_ENDED_S`. Repeatable."""
    async with redis.pipeline(transaction=False) as pipe:
        for name in lasting_names(job):
            pipe.expire(name, KEEP_ENDED_S)
        await pipe.execute()
