"""Dead letters can be read, put back once, and dropped, whatever they hold and whichever version wrote them."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from redis.asyncio import Redis

from services.kit.dead_letters import MOST_BYTES, MOST_LETTERS, dead_letters, set_entry_aside
from services.kit.letters import LETTERS_A_CALL, SHOWN_BYTES, discard, letter_of, letters_of, put_back

STREAM = "{job}:groups"


async def aside(redis: Redis, fields: dict[bytes, bytes], cause: str = "unreadable") -> str:
    entry = await redis.xadd(STREAM, fields)
    await set_entry_aside(redis, STREAM, entry.decode(), cause)
    return entry.decode()


async def test_a_letter_says_why_it_is_there_and_since_when(redis):
    entry = await aside(redis, {b"p": b"x", b"q": b"yz"})
    (letter,) = await letters_of(redis, STREAM)
    assert (letter.entry_id, letter.cause, letter.times, letter.cut) == (entry, "unreadable", 1, False)
    assert letter.size_bytes == len(b"pxqyz")
    assert letter.first_unix_s <= letter.last_unix_s
    shown = await letter_of(redis, STREAM, letter.id)
    assert shown is not None
    assert shown.fields == ((b"p", b"x", 1), (b"q", b"yz", 2))


async def test_a_letter_of_an_earlier_version_is_read_and_put_back(redis):
    await redis.xadd(dead_letters(STREAM), {"cause": "old", "id": "7-1", "p": "x"}, id="1795605451797-0")
    (letter,) = await letters_of(redis, STREAM)
    assert (letter.cause, letter.entry_id, letter.times, letter.cut) == ("old", "7-1", 1, False)
    assert letter.first_unix_s == letter.last_unix_s == 1795605451.797
    assert await put_back(redis, STREAM, letter.id)
    ((_, fields),) = await redis.xrange(STREAM)
    assert fields[b"p"] == b"x"


async def test_a_letter_that_fails_again_keeps_its_first_time_and_counts(redis):
    await aside(redis, {b"p": b"x"}, "once")
    (first,) = await letters_of(redis, STREAM)
    for times in (2, 3):
        (letter,) = await letters_of(redis, STREAM)
        entry = await put_back(redis, STREAM, letter.id)
        assert entry is not None
        assert await letters_of(redis, STREAM) == []
        await set_entry_aside(redis, STREAM, entry, "again")
        (letter,) = await letters_of(redis, STREAM)
        assert (letter.times, letter.cause, letter.entry_id) == (times, "again", entry)
        assert letter.first_unix_s == first.first_unix_s
        assert letter.size_bytes == len(b"px")


async def test_of_many_who_retry_at_once_one_puts_it_back(redis):
    await aside(redis, {b"p": b"x"})
    (letter,) = await letters_of(redis, STREAM)
    moved = await asyncio.gather(*(put_back(redis, STREAM, letter.id) for _ in range(8)))
    assert sum(one is not None for one in moved) == 1
    assert await redis.xlen(STREAM) == 1
    assert await redis.xlen(dead_letters(STREAM)) == 0


async def test_the_record_that_names_the_entry_follows_it(redis):
    entry = await aside(redis, {b"p": b"x"})
    await redis.hset("{job}:group:g", "message", entry)
    await redis.hset("{job}:group:other", "message", "5-5")
    (letter,) = await letters_of(redis, STREAM)
    again = await put_back(redis, STREAM, letter.id, "{job}:group:g")
    assert (await redis.hget("{job}:group:g", "message")).decode() == again
    await set_entry_aside(redis, STREAM, again, "again")
    (letter,) = await letters_of(redis, STREAM)
    await put_back(redis, STREAM, letter.id, "{job}:group:other")
    assert await redis.hget("{job}:group:other", "message") == b"5-5"


async def test_a_dropped_letter_is_gone(redis):
    await aside(redis, {b"p": b"x"})
    (letter,) = await letters_of(redis, STREAM)
    assert await discard(redis, STREAM, letter.id)
    assert not await discard(redis, STREAM, letter.id)
    assert await put_back(redis, STREAM, letter.id) is None
    assert await letter_of(redis, STREAM, letter.id) is None


@pytest.mark.parametrize("forged", [b"", b"-1", b"nan", b"1e9", b"9" * 400, b"\xff", b"2999999999999999"])
async def test_an_entry_cannot_forge_what_the_letter_says(redis, forged):
    await aside(redis, {b"cause": b"forged", b"first": forged, b"times": forged, b"cut": forged, b"id": b"1-1"})
    (letter,) = await letters_of(redis, STREAM)
    assert (letter.cause, letter.times, letter.cut) == ("unreadable", 1, False)
    assert letter.first_unix_s <= letter.last_unix_s


async def test_whatever_lies_among_the_letters_is_read(redis):
    await redis.xadd(dead_letters(STREAM), {b"\xff": b"\xfe", b"first": b"\xff", b"times": b"many", b"cause": b"\xff"})
    (letter,) = await letters_of(redis, STREAM)
    assert letter.times == 1
    assert await letter_of(redis, STREAM, letter.id) is not None


@pytest.mark.parametrize(
    "fields", [{b"p": b"x" * (MOST_BYTES + 1)}, {b"%d" % number: b"x" for number in range(40)}], ids=["long", "many"]
)
async def test_what_was_too_large_to_keep_says_so_and_is_shown_in_part(redis, fields):
    await aside(redis, fields)
    (letter,) = await letters_of(redis, STREAM)
    assert letter.cut
    shown = await letter_of(redis, STREAM, letter.id)
    assert shown is not None
    assert all(len(value) <= SHOWN_BYTES for _, value, _ in shown.fields)


async def test_all_letters_are_listed_the_newest_first(redis):
    for number in range(LETTERS_A_CALL + 3):
        await aside(redis, {b"p": b"x"}, f"cause {number}")
    causes = [letter.cause for letter in await letters_of(redis, STREAM)]
    assert causes == [f"cause {number}" for number in reversed(range(LETTERS_A_CALL + 3))]
    assert len(causes) < MOST_LETTERS


async def test_a_letter_holds_a_stated_number_of_bytes_and_says_what_the_whole_was(redis):
    large, more = b"x" * (3 * MOST_BYTES), b"y" * MOST_BYTES
    await aside(redis, {b"p": large, b"q": more})
    (letter,) = await letters_of(redis, STREAM)
    assert letter.size_bytes == MOST_BYTES + len(b"pq")
    assert f"of {4 * MOST_BYTES + 2} bytes" in letter.cause
    assert hashlib.sha1(large).hexdigest() in letter.cause
