"""Acknowledged streams on a real server."""

import asyncio

import pytest
from redis.asyncio import Redis

from services.kit.streams import FIELD, Entry, StreamConsumer

STREAM, GROUP = "{j}:work", "workers"


def consumer(redis: Redis, name: str = "a", **settings) -> StreamConsumer:
    return StreamConsumer(redis, STREAM, GROUP, name, **settings)


async def add(redis: Redis, *payloads: bytes) -> list[str]:
    return [(await redis.xadd(STREAM, {FIELD: payload})).decode() for payload in payloads]


async def pending(redis: Redis) -> dict[str, tuple[str, int]]:
    """Entry -> (consumer, deliveries)."""
    rows = await redis.xpending_range(STREAM, GROUP, "-", "+", 100)
    return {row["message_id"].decode(): (row["consumer"].decode(), row["times_delivered"]) for row in rows}


async def untouched_for(milliseconds: int) -> None:
    """Let the server's own clock pass; it alone decides what lies idle."""
    await asyncio.sleep(milliseconds / 1000)


async def test_entries_come_once_in_order_and_at_most_so_many(redis):
    ids = await add(redis, b"1", b"2", b"3")
    first, second = consumer(redis, "a"), consumer(redis, "b")
    assert await first.read(2, block_ms=10) == [Entry(ids[0], b"1"), Entry(ids[1], b"2")]
    assert await second.read(2, block_ms=10) == [Entry(ids[2], b"3")]
    assert await first.read(2, block_ms=10) == []


async def test_a_new_group_reads_the_stream_from_its_beginning_and_a_missing_stream_is_made(redis):
    reader = consumer(redis)
    assert await reader.read(1, block_ms=10) == []
    (entry,) = await add(redis, b"1")
    assert await reader.read(1, block_ms=10) == [Entry(entry, b"1")]
    other = StreamConsumer(redis, STREAM, "others", "a")
    assert await other.read(1, block_ms=10) == [Entry(entry, b"1")]


async def test_a_waiting_read_gets_what_comes(redis):
    reader = consumer(redis)
    waiting = asyncio.create_task(reader.read(1, block_ms=5_000))
    await asyncio.sleep(0.05)
    (entry,) = await add(redis, b"1")
    assert await waiting == [Entry(entry, b"1")]


async def test_an_acknowledged_entry_is_gone(redis):
    ids = await add(redis, b"1", b"2")
    reader = consumer(redis, reclaim_idle_ms=1)
    await reader.read(2, block_ms=10)
    await reader.ack(*ids)
    await reader.ack(*ids)
    assert await redis.xlen(STREAM) == 0
    assert await pending(redis) == {}


async def test_what_a_dead_consumer_left_is_claimed_before_anything_new(redis):
    (left,) = await add(redis, b"left")
    dead, alive = consumer(redis, "dead"), consumer(redis, "alive", reclaim_idle_ms=20)
    await dead.read(1, block_ms=10)
    (new,) = await add(redis, b"new")
    await untouched_for(40)
    assert await alive.read(1, block_ms=10) == [Entry(left, b"left")]
    assert await alive.read(1, block_ms=10) == [Entry(new, b"new")]
    assert await pending(redis) == {left: ("alive", 2), new: ("alive", 1)}


async def test_a_touched_entry_stays_with_its_consumer_and_counts_no_delivery(redis):
    (entry,) = await add(redis, b"1")
    working, other = consumer(redis, "working"), consumer(redis, "other", reclaim_idle_ms=10_000)
    await working.read(1, block_ms=10)
    await untouched_for(60)
    (row,) = await redis.xpending_range(STREAM, GROUP, "-", "+", 1)
    assert row["time_since_delivered"] >= 60
    await working.touch(entry)
    (row,) = await redis.xpending_range(STREAM, GROUP, "-", "+", 1)
    assert row["time_since_delivered"] < 60
    assert await other.read(1, block_ms=10) == []
    assert await pending(redis) == {entry: ("working", 1)}


async def test_touching_what_is_acknowledged_does_not_bring_it_back(redis):
    (entry,) = await add(redis, b"1")
    reader = consumer(redis)
    await reader.read(1, block_ms=10)
    await reader.ack(entry)
    await reader.touch(entry)
    assert await pending(redis) == {}


async def test_a_poisonous_entry_goes_to_the_dead_letters_with_its_cause(redis):
    poison, good = await add(redis, b"poison", b"good")
    reader = consumer(redis, reclaim_idle_ms=0, max_deliveries=2)
    assert [entry.id for entry in await reader.read(1, block_ms=10)] == [poison]
    delivered = []
    while await redis.xlen(f"{STREAM}:dead") == 0:
        delivered += [entry.id for entry in await reader.read(1, block_ms=10)]
    assert delivered.count(poison) == 1
    ((_, fields),) = await redis.xrange(f"{STREAM}:dead")
    assert fields == {FIELD: b"poison", b"cause": b"delivered 3 times, never acknowledged", b"id": poison.encode()}
    assert poison not in await pending(redis)
    assert [id_.decode() for id_, _ in await redis.xrange(STREAM)] == [good]


async def test_after_a_restart_a_consumer_finds_its_own_unacknowledged_entries(redis):
    ids = await add(redis, b"1", b"2", b"3")
    before = consumer(redis, "a")
    await before.read(3, block_ms=10)
    await before.ack(ids[1])
    again = consumer(redis, "a")
    assert await again.read_own(8) == [Entry(ids[0], b"1"), Entry(ids[2], b"3")]
    assert await consumer(redis, "b").read_own(8) == []


@pytest.mark.parametrize("reclaim_idle_ms", [0, 60_000])
async def test_a_deleted_stream_is_made_again(redis, reclaim_idle_ms):
    reader = consumer(redis, reclaim_idle_ms=reclaim_idle_ms)
    assert await reader.read(1, block_ms=10) == []
    await redis.delete(STREAM)
    assert await reader.read(1, block_ms=10) == []
    (entry,) = await add(redis, b"1")
    found = []
    while not found:
        found = await reader.read(1, block_ms=10)
    assert found == [Entry(entry, b"1")]


async def test_of_many_consumers_each_entry_reaches_one(redis):
    payloads = [str(i).encode() for i in range(200)]
    readers = [consumer(redis, name) for name in "abcd"]

    async def drain(reader: StreamConsumer) -> list[bytes]:
        taken = []
        while entries := await reader.read(7, block_ms=50):
            taken += [entry.payload for entry in entries]
            await reader.ack(*(entry.id for entry in entries))
        return taken

    await add(redis, *payloads)
    taken = await asyncio.gather(*(drain(reader) for reader in readers))
    assert sorted(sum(taken, [])) == sorted(payloads)  # noqa: RUF017 - four short lists
    assert await redis.xlen(STREAM) == 0
