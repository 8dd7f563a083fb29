"""Acknowledged streams on a real server."""

import asyncio
from functools import partial

import pytest
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from services.contracts import messages
from services.contracts.messages import MAX_MESSAGE_BYTES, CompleteGroup, decode, encode
from services.kit.dead_letters import MOST_BYTES, MOST_FIELDS, MOST_LETTERS, OWN_FIELDS, dead_letters
from services.kit.streams import FIELD, Entry, StreamConsumer, StreamTail, append
from services.kit.values import hash_value, string_value, text_members
from services.stack.valkey import MAX_VALUE_BYTES

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
    known = {FIELD: b"poison", b"cause": b"delivered 3 times, never acknowledged", b"id": poison.encode()}
    assert known.items() <= fields.items()
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


MALFORMED = [
    {b"q": b"x"},
    {b"q": b"x", b"cause": b"mine", b"id": b"mine"},
    {FIELD: b""},
    {FIELD: b"\xff\xfe"},
    {FIELD: b"\xff" * 3_000_000},
    {b"f%d" % i: b"\xff" for i in range(9_000)},
]


def number_of(payload: bytes) -> int:
    return int(payload.decode())


@pytest.mark.parametrize("fields", MALFORMED, ids=range(len(MALFORMED)))
@pytest.mark.parametrize("protocol", [2, 3])
async def test_what_cannot_be_decoded_is_set_aside_at_its_first_reading(redis_url, fields, protocol):
    async with Redis.from_url(redis_url, protocol=protocol) as redis:
        told = []

        async def refused(cause: str) -> None:
            told.append(cause)

        await add(redis, b"1")
        poison = (await redis.xadd(STREAM, fields)).decode()
        await add(redis, b"2")
        reader = consumer(redis, decode=number_of, refused=refused)
        assert [entry.payload for entry in await reader.read(8, block_ms=10)] == [1, 2]
        assert poison not in await pending(redis)
        assert await redis.xlen(STREAM) == 2
        ((_, letter),) = await redis.xrange(dead_letters(STREAM))
    assert letter[b"id"] == poison.encode()
    assert letter[b"cause"]
    assert letter.get(FIELD) == (fields[FIELD][:MOST_BYTES] if FIELD in fields else None)
    assert len(letter) <= MOST_FIELDS + len(OWN_FIELDS)
    assert len(told) == 1
    assert letter[b"cause"].decode().partition("; of ")[0] in told[0]


async def test_a_malformed_entry_that_a_dead_consumer_held_is_set_aside_by_its_heir_and_by_itself(redis):
    poison, good = await add(redis, b"poison", b"2")
    await consumer(redis, "dead").read(2, block_ms=10)
    heir = consumer(redis, "heir", decode=number_of, reclaim_idle_ms=0)
    assert await heir.read(8, block_ms=10) == [Entry(good, 2)]
    assert await redis.xlen(dead_letters(STREAM)) == 1
    (second,) = await add(redis, b"poison")
    await consumer(redis, "heir").read(1, block_ms=10)
    assert [entry.id for entry in await consumer(redis, "heir", decode=number_of).read_own(8)] == [good]
    assert [fields[b"id"].decode() for _, fields in await redis.xrange(dead_letters(STREAM))] == [poison, second]


@pytest.mark.parametrize("misplaced", ["stream", "dead letters", "while it is read"])
async def test_a_key_of_another_type_in_the_stream_s_place_is_set_aside(redis, misplaced):
    reader = consumer(redis, decode=number_of)
    if misplaced == "stream":
        await redis.set(STREAM, "x")
    if misplaced == "dead letters":
        await redis.hset(dead_letters(STREAM), "x", "y")
    if misplaced == "while it is read":
        reading = asyncio.create_task(reader.read(8, block_ms=5_000))
        while not await redis.exists(STREAM):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await redis.set(STREAM, "x")
        assert await reading == []
    await reader.read(8, block_ms=10)
    await add(redis, b"poison", b"1")
    found = []
    while not found:
        found = await reader.read(8, block_ms=10)
    assert [entry.payload for entry in found] == [1]
    assert await redis.xlen(dead_letters(STREAM)) == 1
    assert [key async for key in redis.scan_iter("*:misplaced")] != []


async def test_work_that_fails_too_often_is_set_aside(redis):
    (entry,) = await add(redis, b"1")
    reader = consumer(redis, reclaim_idle_ms=0, max_deliveries=2)
    await reader.read(1, block_ms=10)
    assert not await reader.give_up(entry, "it broke")
    await reader.read(1, block_ms=10)
    assert await reader.give_up(entry, "it broke")
    ((_, letter),) = await redis.xrange(dead_letters(STREAM))
    assert {FIELD: b"1", b"cause": b"it broke", b"id": entry.encode()}.items() <= letter.items()
    assert await pending(redis) == {}


async def test_dead_letters_do_not_pile_up_for_ever(redis):
    await asyncio.gather(*(add(redis, b"poison") for _ in range(2 * MOST_LETTERS)))
    assert await consumer(redis, decode=number_of).read(2 * MOST_LETTERS, block_ms=10) == []
    assert MOST_LETTERS <= await redis.xlen(dead_letters(STREAM)) < MOST_LETTERS + 200


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_tail_passes_over_what_is_malformed_and_frees_what_it_read(redis_url, protocol):
    async with Redis.from_url(redis_url, protocol=protocol) as redis:
        tail = StreamTail(redis, STREAM, number_of)
        await add(redis, b"1", b"\xff", b"2")
        await redis.xadd(STREAM, {b"q": b"x"})
        await add(redis, b"3")
        assert await tail.read(8, block_ms=10) == [1, 2, 3]
        assert await redis.ttl(STREAM) == -1
        await tail.free(60)
        assert 0 < await redis.ttl(STREAM) <= 60
        assert await redis.xlen(STREAM) == 1
        assert await redis.xlen(dead_letters(STREAM)) == 2
        await redis.set(STREAM, "x")
        assert await tail.read(8, block_ms=10) == []
        await append(redis, STREAM, b"4")
        assert await tail.read(8, block_ms=10) == [4]


async def test_an_entry_is_added_although_another_value_stands_in_the_stream_s_place(redis):
    await redis.hset(STREAM, "x", "y")
    await append(redis, STREAM, b"1")
    assert [fields for _, fields in await redis.xrange(STREAM)] == [{FIELD: b"1"}]


async def test_reads_that_no_value_can_break(redis):
    await redis.hset("key", "x", "y")
    assert await string_value(redis, "key") is None
    await redis.set("key", "x")
    assert await string_value(redis, "key") == b"x"
    assert await hash_value(redis, "key") == {}
    await redis.hset("key", "x", "y")
    assert await hash_value(redis, "key") == {b"x": b"y"}
    assert await text_members(redis, "key") == set()
    await redis.sadd("key", b"\xff\xfe", b"job")
    assert await text_members(redis, "key") == {"job"}


async def test_a_rolling_upgrade_reads_what_is_in_flight_and_sets_a_newer_entry_aside(redis, monkeypatch):
    """Of entries of versions 1 and 2, a service that knows version 1 reads the first and one of version 2 both."""
    message = CompleteGroup(job_id="j", group_id="g1", purpose="train", cursor=0)
    await add(redis, encode(message), encode(replace(message, schema=2, group_id="g2")))

    old = consumer(redis, decode=partial(decode, kind=CompleteGroup))
    assert [entry.payload.group_id for entry in await old.read(9, block_ms=10)] == ["g1"]
    ((_, letter),) = await redis.xrange(dead_letters(STREAM))
    assert letter[b"cause"].startswith(b"CompleteGroup has schema 2: a newer release wrote it")
    assert letter[b"cause"].endswith(b"; upgrade this service")

    monkeypatch.setitem(messages.UPGRADES, CompleteGroup, (lambda fields: {**fields, "group_id": "g1 of version 1"},))
    await add(redis, encode(replace(message, schema=2, group_id="g3")))
    new = StreamConsumer(redis, STREAM, "upgraded", "a", decode=partial(decode, kind=CompleteGroup))
    assert [entry.payload.group_id for entry in await new.read(9, block_ms=10)] == ["g1 of version 1", "g3"]


async def test_the_embedded_server_takes_no_value_beyond_a_message(redis_url):
    async with Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0)) as redis:
        assert await redis.set("k", bytes(MAX_MESSAGE_BYTES))
        with pytest.raises(RedisError):
            await redis.set("k", bytes(MAX_VALUE_BYTES + 1))
        assert await redis.strlen("k") == MAX_MESSAGE_BYTES
        await redis.delete("k")
