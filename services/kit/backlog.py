"""How much waits in a stream of work."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.kit.streams import RawEntry


@dataclass(frozen=True)
class Backlog:
    """One stream at one instant."""

    waiting: int = 0
    """Entries that no consumer has taken."""
    in_flight: int = 0
    """Entries that a consumer has taken and not acknowledged."""
    oldest_s: float = 0.0
    """Age of the oldest entry; 0: there is none."""


async def backlog(redis: Redis, stream: str) -> Backlog:
    """The backlog of a stream; nothing waits where there is no such stream.

    A reader deletes what it acknowledges, so the stream's length is what waits and what is in flight. Redis' own `lag`
    is unknown once an entry was deleted that nobody had read.
    """
    try:
        length, groups, oldest, (seconds, microseconds) = await asyncio.gather(
            redis.xlen(stream), redis.xinfo_groups(stream), redis.xrange(stream, count=1), redis.time()
        )
    except ResponseError:  # there is no such stream, or a value of another type stands there
        return Backlog()
    in_flight = min(sum(int(one["pending"]) for one in groups), length)
    born_ms = [int(entry.partition(b"-")[0]) for entry, _ in cast("list[RawEntry]", oldest)]
    age_s = max(seconds + microseconds / 1e6 - born_ms[0] / 1_000, 0.0) if born_ms else 0.0
    return Backlog(length - in_flight, in_flight, age_s)
