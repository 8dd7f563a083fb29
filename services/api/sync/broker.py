"""The trainer's queue as it lies in Redis: which jobs it holds a message of.

That is kombu's own layout, not its API: the version is pinned, and tests look at the messages of a real sender and at
those in the hands of a real worker.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Mapping
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from services.contracts import keys

_STEPS = (3, 6, keys.WAITING)
_LISTS = [keys.TRAINER_QUEUE, *(f"{keys.TRAINER_QUEUE}\x06\x16{priority}" for priority in _STEPS)]
_IN_FLIGHT = "unacked"
"""Hash of what workers hold: JSON [message, exchange, routing key]."""


class _Message(msgspec.Struct):
    body: str


class QueueUnreadable(Exception):
    """A message is not what a sender of ours would write; nothing is known of the queue."""


async def queue_lengths(redis: Redis) -> tuple[int, int]:
    """(messages that wait, messages that workers hold)."""
    async with redis.pipeline(transaction=False) as pipe:
        for name in _LISTS:
            pipe.llen(name)
        pipe.hlen(_IN_FLIGHT)
        *waiting, in_flight = await pipe.execute()
    return sum(waiting), in_flight


async def announced_jobs(redis: Redis) -> set[str]:
    """Ids of the jobs of which a message waits or is held by a worker; one on its way between the two may be missing.

    Raises:
        QueueUnreadable.
    """
    waiting = [message for name in _LISTS for message in await cast(Awaitable[list[bytes]], redis.lrange(name, 0, -1))]
    held = await cast(Awaitable[list[bytes]], redis.hvals(_IN_FLIGHT))
    return await asyncio.to_thread(_named_in, waiting, held)


def _named_in(waiting: list[bytes], held: list[bytes]) -> set[str]:
    try:
        messages = [msgspec.json.decode(message, type=_Message) for message in waiting]
        messages += [msgspec.json.decode(entry, type=tuple[_Message, Any, Any])[0] for entry in held]
        return {_job_of(message) for message in messages}
    except (ValueError, KeyError, IndexError) as error:  # msgspec's and base64's errors are ValueErrors
        raise QueueUnreadable(f"queue {keys.TRAINER_QUEUE}: {error}") from error


def _job_of(message: _Message) -> str:
    arguments = msgspec.json.decode(base64.b64decode(message.body), type=tuple[list[Any], Mapping[str, Any], Any])[0]
    return str(arguments[0])
