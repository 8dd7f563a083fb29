"""Acknowledged streams: read new entries, reclaim those of dead consumers, set poisonous ones aside with the cause."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

BLOCK_MS = 1_000
"""How long one read waits; short, so that a stopping service is not held up."""
FIELD = b"p"
"""The one field of an entry: its payload."""


@dataclass(frozen=True)
class Entry:
    """One delivered entry of a stream."""

    id: str
    payload: bytes


class StreamConsumer:
    """One consumer of one stream in one consumer group. It acknowledges nothing by itself.

    Args:
        stream: key; created when it does not exist.
        group: consumer group; a new one reads the stream from its beginning.
        consumer: this process's name, unique among the group's live consumers.
        reclaim_idle_ms: an entry untouched for so long belonged to a dead consumer; `touch` what takes long.
        max_deliveries: an entry delivered more often than this goes to `<stream>:dead` with its cause.
    """

    def __init__(
        self,
        redis: Redis,
        stream: str,
        group: str,
        consumer: str,
        *,
        reclaim_idle_ms: int = 10_000,
        max_deliveries: int = 8,
    ) -> None:
        self._redis, self.stream, self.group, self.consumer = redis, stream, group, consumer
        self._reclaim_idle_ms, self._max_deliveries = reclaim_idle_ms, max_deliveries
        self._ready = False
        self._next_reclaim = 0.0

    async def read(self, count: int, *, block_ms: int = BLOCK_MS) -> list[Entry]:
        """At most `count` entries: those of dead consumers first, then new ones; empty after `block_ms` without any."""
        await self._ensure_group()
        now = time.monotonic()
        if now >= self._next_reclaim:
            self._next_reclaim = now + self._reclaim_idle_ms / 4_000
            if reclaimed := await self._reclaim(count):
                return reclaimed
        try:
            answer = await self._redis.xreadgroup(
                self.group, self.consumer, {self.stream: ">"}, count=count, block=block_ms or None
            )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._ready = False  # the stream was deleted; make it again on the next read
            return []
        return [entry for _, entries in _streams(answer) for entry in _entries(entries)]

    async def read_own(self, count: int) -> list[Entry]:
        """Entries delivered to this consumer's name before and never acknowledged: what to look at after a restart."""
        await self._ensure_group()
        answer = await self._redis.xreadgroup(self.group, self.consumer, {self.stream: "0"}, count=count)
        return [entry for _, entries in _streams(answer) for entry in _entries(entries)]

    async def ack(self, *ids: str) -> None:
        """Done with these entries: acknowledge and delete them in one transaction."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xack(self.stream, self.group, *ids)
            pipe.xdel(self.stream, *ids)
            await pipe.execute()

    async def touch(self, *ids: str) -> None:
        """Still working on these entries: restart the clock after which another consumer may claim them."""
        await self._redis.xclaim(self.stream, self.group, self.consumer, 0, list(ids), justid=True)

    async def _ensure_group(self) -> None:
        if self._ready:
            return
        with suppress(ResponseError):  # BUSYGROUP: it exists
            await self._redis.xgroup_create(self.stream, self.group, id="0", mkstream=True)
        self._ready = True

    async def _reclaim(self, count: int) -> list[Entry]:
        try:
            answer = await self._redis.xautoclaim(
                self.stream, self.group, self.consumer, self._reclaim_idle_ms, start_id="0-0", count=count
            )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._ready = False
            return []
        entries = _entries(answer[1])
        return [entry for entry in entries if not await self._set_aside(entry)] if entries else []

    async def _set_aside(self, entry: Entry) -> bool:
        pending = await self._redis.xpending_range(self.stream, self.group, entry.id, entry.id, 1)
        deliveries = int(pending[0]["times_delivered"]) if pending else 0
        if deliveries <= self._max_deliveries:
            return False
        cause = f"delivered {deliveries} times, never acknowledged"
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xadd(f"{self.stream}:dead", {FIELD: entry.payload, b"cause": cause, b"id": entry.id})
            pipe.xack(self.stream, self.group, entry.id)
            pipe.xdel(self.stream, entry.id)
            await pipe.execute()
        return True


def _streams(answer: Any) -> list[tuple[bytes, Any]]:
    if not answer:
        return []
    if isinstance(answer, dict):  # RESP3: {stream: [entries]} with the entries wrapped once more
        return [
            (name, entries[0] if entries and isinstance(entries[0], list) else entries)
            for name, entries in answer.items()
        ]
    return cast("list[tuple[bytes, Any]]", answer)


def _entries(raw: Any) -> list[Entry]:
    return [Entry(id_.decode(), fields[FIELD]) for id_, fields in raw or [] if fields]
