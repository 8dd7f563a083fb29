"""Finds messages whose trainer died, by its heartbeat: its successor need not wait for the visibility timeout.

A trainer's child notes in Redis whose message it holds. Each trainer looks at the others' heartbeats; once one of them
is gone for several looks, its messages are made due, and the next sweep of any worker delivers them again. That a live
trainer is taken for dead, because its machine stood still, costs time and no work: its epoch is old then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from redis.asyncio import Redis

from services.contracts import keys
from services.kit.kombu_layout import UNACKED_INDEX
from services.kit.redis import connect
from services.kit.values import hash_value, texts
from services.ledger.presence import present_names

log = structlog.get_logger("trainer")

SILENT_LOOKS = 4
"""Looks in a row, each answered by Redis, at which a heartbeat is missing. After an outage of Redis every trainer beats
again within one."""


class Orphans:
    """Looks for them, once a heartbeat.

    Args:
        broker: Celery's database.
    """

    def __init__(self, redis: Redis, broker: Redis) -> None:
        self._redis, self._broker = redis, broker
        self._silent: dict[bytes, int] = {}

    async def look(self) -> None:
        """Make the messages of dead trainers due. Raises RedisError."""
        holders = await hash_value(self._broker, keys.MESSAGE_HOLDERS)
        alive = await present_names(self._redis, "trainer") if holders else set()
        gone = {tag for tag, holder in holders.items() if not alive.intersection(_heartbeats(holder))}
        self._silent = {tag: self._silent.get(tag, 0) + 1 for tag in gone}
        for tag in [tag for tag, looks in self._silent.items() if looks >= SILENT_LOOKS]:
            log.warning("a trainer is gone; its message is delivered again", trainer=repr(holders[tag]))
            await self._broker.zadd(UNACKED_INDEX, {tag: 0.0}, xx=True)  # XX: one that was acknowledged stays so
            await self._broker.hdel(keys.MESSAGE_HOLDERS, tag)


@asynccontextmanager
async def orphans_in(redis_url: str, broker_url: str) -> AsyncIterator[Orphans]:
    """Look with connections that wait for nothing, as the next look comes soon."""
    redis = connect(redis_url, timeout_s=5, retries=0, waits_for_writes=False)
    broker = connect(broker_url, timeout_s=5, retries=0, waits_for_writes=False)
    async with redis, broker:
        yield Orphans(redis, broker)


def _heartbeats(holder: bytes) -> set[str]:
    return {keys.service_heartbeat("trainer", name) for name in texts([holder])}
