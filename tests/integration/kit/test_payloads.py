"""Large payloads lie beside their stream, and go with their entries."""

from __future__ import annotations

import random
import zlib

import pytest
from redis.asyncio import Redis

from services.kit.dead_letters import dead_letters, set_entry_aside
from services.kit.letters import SHOWN_BYTES, discard, letter_of, letters_of, put_back
from services.kit.payloads import FIELD, LARGE_BYTES, MOST_PAYLOAD_BYTES, REFERENCE, SIZE, payload_key
from services.kit.streams import Entry, StreamConsumer, StreamTail, append, read_streams

STREAM, GROUP = "{j}:work", "workers"
LARGE = random.Random(0).randbytes(LARGE_BYTES) + bytes(3 * LARGE_BYTES)
NAME = "ab" * 16


def consumer(redis: Redis, name: str = "a", **settings) -> StreamConsumer:
    return StreamConsumer(redis, STREAM, GROUP, name, **settings)


async def payloads(redis: Redis) -> list[str]:
    """Keys of the payloads beside the stream."""
    return [key.decode() async for key in redis.scan_iter(payload_key(STREAM, "*"))]


async def put(redis: Redis, payload: bytes = LARGE) -> str:
    return (await append(redis, STREAM, payload)).decode()


@pytest.mark.parametrize(("size", "beside"), [(LARGE_BYTES, False), (LARGE_BYTES + 1, True)])
async def test_a_payload_above_the_limit_lies_beside_its_stream(redis, size, beside):
    entry = await put(redis, bytes(size))
    ((_, fields),) = await redis.xrange(STREAM)
    keys = await payloads(redis)
    assert (FIELD in fields, len(keys)) == (not beside, int(beside))
    if beside:
        assert sum(len(name) + len(value) for name, value in fields.items()) < 100
        assert await redis.ttl(keys[0]) > 0
        assert await redis.strlen(keys[0]) < 200
    assert await consumer(redis).read(1, block_ms=10) == [Entry(entry, bytes(size))]


@pytest.mark.parametrize("again", [False, True])
async def test_an_acknowledged_entry_takes_its_payload_along(redis, again):
    (one, other) = await put(redis), await put(redis)
    reader = consumer(redis)
    assert [entry.payload for entry in await reader.read(2, block_ms=10)] == [LARGE, LARGE]
    if again:  # a restarted process
        reader = consumer(redis)
        assert [entry.id for entry in await reader.read_own(2)] == [one, other]
    await reader.ack(one)
    assert len(await payloads(redis)) == 1
    await reader.ack(one, other)
    assert await payloads(redis) == []


async def test_a_large_payload_in_its_entry_is_read_as_earlier_versions_wrote_it(redis):
    await redis.xadd(STREAM, {FIELD: LARGE})
    assert [entry.payload for entry in await consumer(redis).read(1, block_ms=10)] == [LARGE]


async def test_a_claimed_entry_has_its_payload(redis):
    await put(redis)
    await consumer(redis, "dead").read(1, block_ms=10)
    (entry,) = await consumer(redis, "heir", reclaim_idle_ms=0).read(1, block_ms=10)
    assert entry.payload == LARGE


async def test_tails_and_readers_of_many_streams_get_payloads(redis):
    await put(redis)
    found = await read_streams(redis, {STREAM: "0-0"}, 10, block_ms=10)
    tail = StreamTail(redis, STREAM, bytes)
    assert await tail.read(10, block_ms=10) == [LARGE]
    assert len(found[STREAM.encode()]) == 1
    await tail.free(60)
    await tail.free(60)
    assert await payloads(redis) == []


async def spoil(redis: Redis, how: str) -> None:
    (key,) = await payloads(redis)
    match how:
        case "gone":
            await redis.delete(key)
        case "another type":
            await redis.delete(key)
            await redis.hset(key, "x", "y")
        case "not compressed":
            await redis.set(key, b"\xff" * 40_000)
        case "cut":
            await redis.set(key, (await redis.get(key))[:-9])
        case "a bomb":
            await redis.set(key, zlib.compress(bytes(MOST_PAYLOAD_BYTES + 1), 9))


SPOILED = ["gone", "another type", "not compressed", "cut", "a bomb"]


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("tail", [False, True])
async def test_a_payload_that_cannot_be_had_is_a_dead_letter_and_stops_nothing(redis, how, tail):
    await put(redis)
    await spoil(redis, how)
    await put(redis, b"next")
    if tail:
        assert await StreamTail(redis, STREAM, bytes).read(10, block_ms=10) == [b"next"]
    else:
        assert [entry.payload for entry in await consumer(redis).read(10, block_ms=10)] == [b"next"]
    (letter,) = await letters_of(redis, STREAM)
    assert "payload" in letter.cause


@pytest.mark.parametrize(
    "fields",
    [{REFERENCE: b"x"}, {REFERENCE: b"\xff" * 16}, {REFERENCE: NAME.encode()}, {REFERENCE: b"../" * 9, b"z": b"x"}],
)
async def test_a_reference_to_nothing_is_a_dead_letter(redis, fields):
    await redis.xadd(STREAM, fields)
    await put(redis, b"next")
    assert [entry.payload for entry in await consumer(redis).read(10, block_ms=10)] == [b"next"]
    assert len(await letters_of(redis, STREAM)) == 1


async def letter(redis: Redis) -> str:
    await set_entry_aside(redis, STREAM, await put(redis), "poison")
    (found,) = await letters_of(redis, STREAM)
    assert found.size_bytes >= len(LARGE)
    return found.id


async def test_a_dead_letter_keeps_the_reference_and_is_read_again_whole(redis):
    name = await letter(redis)
    ((_, fields),) = await redis.xrange(dead_letters(STREAM))
    assert FIELD not in fields
    shown = await letter_of(redis, STREAM, name)
    assert shown is not None
    assert not shown.cut
    assert not shown.gone
    assert (FIELD, LARGE[:SHOWN_BYTES], len(LARGE)) in shown.fields
    (key,) = await payloads(redis)
    await redis.expire(key, 5)
    entry = await put_back(redis, STREAM, name)
    assert await redis.ttl(key) > 5
    reader = consumer(redis)
    assert await reader.read(1, block_ms=10) == [Entry(entry, LARGE)]
    await reader.ack(entry)
    assert await payloads(redis) == []


async def test_a_dead_letter_keeps_its_payload_when_the_stream_is_freed(redis):
    await put(redis)

    def refuse(payload: bytes) -> bytes:
        raise ValueError("no")

    tail = StreamTail(redis, STREAM, refuse)
    await tail.read(10, block_ms=10)
    await tail.free(60)
    assert len(await payloads(redis)) == 1


async def test_a_dropped_letter_takes_its_payload_along_and_one_without_says_so(redis):
    name = await letter(redis)
    assert await discard(redis, STREAM, name)
    assert await payloads(redis) == []
    name = await letter(redis)
    await spoil(redis, "gone")
    shown = await letter_of(redis, STREAM, name)
    assert shown is not None
    assert shown.gone
    assert (SIZE, str(len(LARGE)).encode(), 5) in shown.fields
