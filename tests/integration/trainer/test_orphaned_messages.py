"""Messages whose trainer died are made due by its heartbeat, and what cannot be delivered again is set aside."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from services.api.sync.broker import announced_jobs, held_jobs
from services.contracts import keys
from services.kit.dead_letters import dead_letters
from services.trainer.celery_worker.celery_app import celery_app
from services.trainer.celery_worker.orphans import SILENT_LOOKS, Orphans
from services.trainer.settings import Settings


async def test_only_who_is_silent_for_several_looks_is_dead(redis: Redis) -> None:
    """Redis was away: at the first looks nobody has beaten again yet."""
    orphans = Orphans(redis, redis)
    for tag, holder in (("live", "t1"), ("dead", "t2"), ("junk", b"\xff")):
        await redis.hset(keys.MESSAGE_HOLDERS, tag, holder)
        await redis.zadd("unacked_index", {tag: 100.0})
    for _ in range(SILENT_LOOKS - 1):
        await orphans.look()
    await redis.set(keys.service_heartbeat("trainer", "t1"), b"")
    assert await due(redis) == set()
    for _ in range(SILENT_LOOKS):
        await orphans.look()
    assert await due(redis) == {b"dead", b"junk"}
    assert await redis.hkeys(keys.MESSAGE_HOLDERS) == [b"live"]


async def due(redis: Redis) -> set[bytes]:
    return set(await redis.zrangebyscore("unacked_index", 0, 1))


async def test_a_message_that_was_acknowledged_meanwhile_does_not_come_again(redis: Redis) -> None:
    await redis.hset(keys.MESSAGE_HOLDERS, "tag", "gone")
    orphans = Orphans(redis, redis)
    for _ in range(SILENT_LOOKS):
        await orphans.look()
    assert not await redis.exists("unacked_index")


@pytest.mark.parametrize("entry", [b"x", b"\xff", b"{}", b"[1]", b"7", b"null"])
async def test_what_nobody_can_deliver_again_is_set_aside(redis: Redis, redis_url: str, entry: bytes) -> None:
    await redis.hset("unacked", "tag", entry)
    await redis.zadd("unacked_index", {"tag": 1.0, "of nothing": 1.0})
    assert await held_jobs(redis) == await announced_jobs(redis) == set(), "the API reads past them"
    with celery_app(Settings(redis_url=redis_url)).connection_for_read() as connection:
        connection.default_channel.qos.restore_visible(num=10, interval=1)
    assert not await redis.exists("unacked", "unacked_index")
    (letter,) = await redis.xrange(dead_letters(keys.TRAINER_QUEUE))
    assert letter[1][b"p"] == entry
