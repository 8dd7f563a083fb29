"""Readers of Redis Streams. They return decoded entries; an unreadable entry goes to the dead letters.

`StreamConsumer` shares a stream among the members of a consumer group and reclaims the entries of dead members;
`StreamTail` reads a stream that only one process reads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import ResponseError
from redis.typing import EncodableT, FieldT, KeyT, StreamIdT

from services.kit.dead_letters import is_wrong_type, set_entry_aside, set_key_aside
from services.kit.payloads import FIELD as FIELD
from services.kit.payloads import KEPT_S, LARGE_BYTES, fetched, packed, payload_key, payload_keys
from services.kit.payloads import MalformedEntry as MalformedEntry
from services.kit.payloads import RawEntry as RawEntry
from services.kit.payloads import payload_of as payload_of

BLOCK_MS = 1_000
"""How long one read waits; short, so that a stopping service is not held up."""

T = TypeVar("T")
R = TypeVar("R")
_AS_IT_IS: Any = bytes
Refused = Callable[[str], Awaitable[None]]
"""Told why an entry was set aside."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One delivered entry of a stream, decoded."""

    id: str
    payload: T


async def append(redis: Redis, stream: str, payload: bytes, *, keep_s: int = KEPT_S) -> bytes:
    """Add an entry and return its id; a value of another type that stands in the stream's place is set aside first.

    Args:
        keep_s: how long a large payload, which lies beside the stream, stays while nobody acknowledges its entry.
    """
    return cast(bytes, await _append(redis, stream, payload, keep_s, create=True))


async def append_to_existing(redis: Redis, stream: str, payload: bytes, *, keep_s: int = KEPT_S) -> bytes | None:
    """The same, where the stream exists. None: it does not, as after its reader signed off, and nothing was added."""
    return await _append(redis, stream, payload, keep_s, create=False)


async def _append(redis: Redis, stream: str, payload: bytes, keep_s: int, *, create: bool) -> bytes | None:
    try:
        return await _add(redis, stream, payload, keep_s, create)
    except ResponseError as error:
        if not is_wrong_type(error):
            raise
        await set_key_aside(redis, stream, "stream")
        return await _add(redis, stream, payload, keep_s, create)


async def _add(redis: Redis, stream: str, payload: bytes, keep_s: int, create: bool) -> bytes | None:
    if len(payload) <= LARGE_BYTES:
        return cast("bytes | None", await redis.xadd(stream, {FIELD: payload}, nomkstream=not create))
    name, stored, fields = packed(payload)
    key = payload_key(stream, name)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.set(key, stored, ex=keep_s)
        pipe.xadd(stream, dict[FieldT, EncodableT](fields.items()), nomkstream=not create)
        added = cast("bytes | None", (await pipe.execute())[-1])
    if added is None:
        await redis.delete(key)
    return added


def by_stream(answer: object) -> dict[bytes, list[RawEntry]]:
    """The answer of XREAD or XREADGROUP in either protocol's shape: stream -> its entries."""
    if not answer:
        return {}
    if isinstance(answer, dict):  # RESP3: {stream: [entries]} with the entries wrapped once more
        return {
            name: entries[0] if entries and isinstance(entries[0], list) else entries
            for name, entries in answer.items()
        }
    return dict(cast("list[tuple[bytes, list[RawEntry]]]", answer))


class StreamConsumer(Generic[T]):
    """One consumer of one stream in one consumer group. It acknowledges nothing that it could decode by itself.

    Args:
        stream: key; created when it does not exist. A value of another type in its place is set aside.
        group: consumer group; a new one reads the stream from its beginning.
        consumer: this process's name, unique among the group's live consumers.
        decode: makes a message of a payload; whatever it raises refuses the entry. By default the payload as it is.
        refused: told the cause of each entry that was set aside.
        reclaim_idle_ms: an entry untouched for so long belonged to a dead consumer; `touch` what takes long.
        max_deliveries: an entry delivered more often than this goes to the dead letters.
    """

    def __init__(
        self,
        redis: Redis,
        stream: str,
        group: str,
        consumer: str,
        *,
        decode: Callable[[bytes], T] = _AS_IT_IS,
        refused: Refused | None = None,
        reclaim_idle_ms: int = 10_000,
        max_deliveries: int = 8,
    ) -> None:
        self._redis, self.stream, self.group, self.consumer = redis, stream, group, consumer
        self._decode, self._refused = decode, refused
        self._reclaim_idle_ms, self._max_deliveries = reclaim_idle_ms, max_deliveries
        self._payloads: dict[str, str] = {}
        """Key of the payload beside the stream, of each entry that was read and has one."""
        self._ready = False
        self._next_reclaim = 0.0

    async def read(self, count: int, *, block_ms: int = BLOCK_MS) -> list[Entry[T]]:
        """At most `count` entries: those of dead consumers first, then new ones; empty after `block_ms` without any."""
        await self._ensure_group()
        now = time.monotonic()
        if now >= self._next_reclaim:
            self._next_reclaim = now + self._reclaim_idle_ms / 4_000
            if reclaimed := await self._reclaim(count):
                return reclaimed
        return await self._read(">", count, block_ms or None)

    async def read_own(self, count: int) -> list[Entry[T]]:
        """Entries delivered to this consumer's name before and never acknowledged: what to look at after a restart."""
        await self._ensure_group()
        return await self._read("0", count, None)

    async def ack(self, *ids: str) -> None:
        """Done with these entries: acknowledge and delete them and their payloads in one transaction."""
        payloads = [self._payloads[one] for one in ids if one in self._payloads]
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.xack(self.stream, self.group, *ids)
            pipe.xdel(self.stream, *ids)
            if payloads:
                pipe.delete(*payloads)
            await pipe.execute()
        self._forget(ids)

    async def touch(self, *ids: str) -> None:
        """Still working on these entries: restart the clock after which another consumer may claim them."""
        await self._redis.xclaim(self.stream, self.group, self.consumer, 0, list(ids), justid=True)

    async def give_up(self, entry_id: str, cause: str) -> bool:
        """Working on an entry failed. True: it was delivered `max_deliveries` times and is set aside; otherwise it
        comes again after the reclaim time."""
        if await self._deliveries(entry_id) < self._max_deliveries:
            return False
        await self._set_aside(entry_id, cause)
        return True

    async def _read(self, after: str, count: int, block_ms: int | None) -> list[Entry[T]]:
        answer = await self._answer(
            self._redis.xreadgroup(self.group, self.consumer, {self.stream: after}, count=count, block=block_ms)
        )
        return [entry for raw in by_stream(answer).values() for entry in await self._decoded(raw)]

    async def _decoded(self, raw: Sequence[RawEntry]) -> list[Entry[T]]:
        self._payloads |= payload_keys(self.stream, raw)
        return await decoded(await fetched(self._redis, self.stream, raw), self._decode, self._set_aside)

    def _forget(self, ids: Iterable[str]) -> None:
        for one in ids:
            self._payloads.pop(one, None)

    async def _ensure_group(self) -> None:
        while not self._ready:
            try:
                await self._redis.xgroup_create(self.stream, self.group, id="0", mkstream=True)
            except ResponseError as error:
                if is_wrong_type(error) or "requires the key" in str(error):
                    await set_key_aside(self._redis, self.stream, "stream")
                    continue
                if "BUSYGROUP" not in str(error):
                    raise
            self._ready = True

    async def _answer(self, command: Awaitable[R]) -> R | None:
        """The answer; None where the stream was deleted or replaced: it is made again on the next read."""
        try:
            return await command
        except ResponseError as error:
            if not is_wrong_type(error) and not any(word in str(error) for word in ("NOGROUP", "UNBLOCKED")):
                raise
            self._ready = False
            return None

    async def _reclaim(self, count: int) -> list[Entry[T]]:
        answer = await self._answer(
            self._redis.xautoclaim(
                self.stream, self.group, self.consumer, self._reclaim_idle_ms, start_id="0-0", count=count
            )
        )
        entries = await self._decoded(answer[1]) if answer else []
        return [entry for entry in entries if not await self._delivered_too_often(entry.id)]

    async def _delivered_too_often(self, entry_id: str) -> bool:
        deliveries = await self._deliveries(entry_id)
        if deliveries <= self._max_deliveries:
            return False
        await self._set_aside(entry_id, f"delivered {deliveries} times, never acknowledged")
        return True

    async def _deliveries(self, entry_id: str) -> int:
        pending = await self._redis.xpending_range(self.stream, self.group, entry_id, entry_id, 1)
        return int(pending[0]["times_delivered"]) if pending else 0

    async def _set_aside(self, entry_id: str, cause: str) -> None:
        moved = await set_entry_aside(self._redis, self.stream, entry_id, cause, self.group)
        self._forget([entry_id])
        if moved and self._refused is not None:
            await self._refused(f"{self.stream}: entry {entry_id} was set aside: {cause}")


async def read_streams(
    redis: Redis, after: Mapping[str, str], count: int, *, block_ms: int = BLOCK_MS
) -> dict[bytes, list[RawEntry]]:
    """Entries of many streams behind these ids, at most `count` of each; waits at most `block_ms` for a first one.

    The streams lie in many slots of a cluster, which waits for one slot alone: there it is a look at each, then a wait.
    """
    if not isinstance(redis, RedisCluster):
        answer = by_stream(await redis.xread(dict[KeyT, StreamIdT](after.items()), count=count, block=block_ms))
        return await _all_fetched(redis, answer)
    found: dict[bytes, list[RawEntry]] = {}
    async with redis.pipeline(transaction=False) as pipe:
        for stream, last in after.items():
            pipe.xread({stream: last}, count=count)
        for answer in await pipe.execute():
            found |= by_stream(answer)
    if not found:
        await asyncio.sleep(block_ms / 1_000)
    return await _all_fetched(redis, found)


async def _all_fetched(redis: Redis, found: Mapping[bytes, Sequence[RawEntry]]) -> dict[bytes, list[RawEntry]]:
    return {stream: await fetched(redis, stream.decode(), raw) for stream, raw in found.items()}


class StreamTail(Generic[T]):
    """Reads a stream that no other process reads; nothing is acknowledged."""

    def __init__(self, redis: Redis, stream: str, decode: Callable[[bytes], T]) -> None:
        self._redis, self.stream, self._decode = redis, stream, decode
        self._last = b"0-0"
        self._payloads: dict[str, str] = {}
        """Key of the payload beside the stream, of each entry that was read, is not deleted yet, and has one."""

    async def read(self, count: int, *, block_ms: int = BLOCK_MS) -> list[T]:
        """At most `count` messages behind those read before; empty after `block_ms` without any."""
        try:
            answer = await self._redis.xread({self.stream: self._last}, count=count, block=block_ms)
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            await set_key_aside(self._redis, self.stream, "stream")
            return []
        found = [entry for entries in by_stream(answer).values() for entry in entries]
        raw = await fetched(self._redis, self.stream, found)
        self._payloads |= payload_keys(self.stream, raw)
        self._last = raw[-1][0] if raw else self._last
        return [entry.payload for entry in await decoded(raw, self._decode, self._set_aside)]

    async def free(self, keep_s: int) -> None:
        """Delete what was read, and the whole stream when nobody calls this for `keep_s` seconds."""
        freed = dict(self._payloads)
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xtrim(self.stream, minid=self._last, approximate=False)
            pipe.expire(self.stream, keep_s)
            if freed:
                pipe.delete(*freed.values())
            await pipe.execute()
        for one in freed:
            self._payloads.pop(one, None)

    async def _set_aside(self, entry_id: str, cause: str) -> None:
        self._payloads.pop(entry_id, None)
        await set_entry_aside(self._redis, self.stream, entry_id, cause)


async def decoded(
    raw: Iterable[RawEntry], decode: Callable[[bytes], T], refuse: Callable[[str, str], Awaitable[None]]
) -> list[Entry[T]]:
    """The entries as messages; `refuse` takes the id and the cause of each that is none."""
    entries: list[Entry[T]] = []
    for raw_id, fields in raw:
        if not fields:  # deleted while it was pending
            continue
        entry_id = raw_id.decode()
        try:
            entries.append(Entry(entry_id, decode(payload_of(fields))))
        except Exception as error:  # noqa: BLE001 - whatever decoding raises is the fault of what was written
            await refuse(entry_id, str(error) or repr(error))
    return entries
