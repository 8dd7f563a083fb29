"""The list of active jobs, whose groups may be played. Trainers add their jobs, and every service polls the list.

A value of another type under the list's key is set aside, and the trainers of running jobs add their jobs again.
"""

from __future__ import annotations

from redis.asyncio import Redis

from services.contracts import keys
from services.kit.values import add_member, drop_member, text_members


async def active_jobs(redis: Redis) -> set[str]:
    """The ids of all."""
    return await text_members(redis, keys.ACTIVE_JOBS)


async def activate(redis: Redis, job: str) -> None:
    """Services may begin with the job."""
    await add_member(redis, keys.ACTIVE_JOBS, job)


async def deactivate(redis: Redis, job: str) -> None:
    """Remove the job, so that no service begins anything of it any more."""
    await drop_member(redis, keys.ACTIVE_JOBS, job)
