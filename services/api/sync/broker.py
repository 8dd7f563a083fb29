"""The trainer's queue in Redis: lists the jobs that it holds a message for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import cast

from redis.asyncio import Redis

from services.contracts import keys
from services.kit.kombu_layout import UNACKED, held_arguments, waiting_arguments, waiting_lists

_LISTS = waiting_lists(keys.TRAINER_QUEUE)


class QueueUnreadable(Exception):
    """A message is not what a sender of ours would write; nothing is known of the queue."""


def job_named_in(message: bytes) -> str | None:
    """The job of a message that waits; None: it is none of ours, and the worker that takes it sets it aside."""
    try:
        return str(waiting_arguments(message)[0])
    except (ValueError, IndexError):
        return None


async def queue_lengths(redis: Redis) -> tuple[int, int]:
    """(messages that wait, messages that workers hold)."""
    async with redis.pipeline(transaction=False) as pipe:
        for name in _LISTS:
            pipe.llen(name)
        pipe.hlen(UNACKED)
        *waiting, in_flight = await pipe.execute()
    return sum(waiting), in_flight


async def announced_jobs(redis: Redis) -> set[str]:
    """Ids of the jobs of which a message waits or is held by a worker; one on its way between the two may be missing.

    Raises:
        QueueUnreadable.
    """
    waiting = [message for name in _LISTS for message in await cast(Awaitable[list[bytes]], redis.lrange(name, 0, -1))]
    held = await cast(Awaitable[list[bytes]], redis.hvals(UNACKED))
    return await asyncio.to_thread(_named_in, waiting, held)


async def held_jobs(redis: Redis) -> set[str]:
    """Ids of the jobs of which a worker holds a message: it is at work on them. Raises QueueUnreadable."""
    held = await cast(Awaitable[list[bytes]], redis.hvals(UNACKED))
    return await asyncio.to_thread(_named_in, [], held)


def _named_in(waiting: list[bytes], held: list[bytes]) -> set[str]:
    try:
        arguments = [waiting_arguments(message) for message in waiting] + [held_arguments(entry) for entry in held]
        return {str(job) for job, *_ in arguments}
    except ValueError as error:
        raise QueueUnreadable(f"queue {keys.TRAINER_QUEUE}: {error}") from error
