"""One job's groups in one worker's hands."""

from __future__ import annotations

import asyncio
from pathlib import Path

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import OpenedGroup
from services.kit.tasks import ended
from services.ledger.ledger import ROLLOUT
from services.rollout.consumer import GroupConsumer
from services.rollout.slots import EpisodeSlots
from tests.integration.rollout.worker_process import WorkedJob


async def test_a_group_that_its_own_worker_touched_too_late_is_not_played_twice(redis: Redis, tmp_path: Path) -> None:
    job, played, over = WorkedJob(redis, tmp_path, "job_a", {}), list[str](), asyncio.Event()
    await job.begin()

    async def play(group: OpenedGroup) -> None:
        played.append(group.group_id)
        await over.wait()

    consumer = GroupConsumer(redis, "job_a", "w1", play=play, slots=EpisodeSlots(64), reclaim_idle_s=0.4)
    consuming = asyncio.create_task(consumer.consume(asyncio.Event()))
    first = await job.open(0)
    while not played:
        await asyncio.sleep(0.01)
    await taken_back(redis)
    second = await job.open(1)
    while second not in played:
        await asyncio.sleep(0.01)
    assert played == [first, second]
    over.set()
    await ended([consuming])


async def taken_back(redis: Redis) -> None:
    """Return once the worker has claimed its one entry anew, which lay idle for long again and again."""
    deliveries, stream = 1, keys.groups_stream("job_a")
    while deliveries == 1:
        for entry in await redis.xpending_range(stream, ROLLOUT, "-", "+", 1):
            deliveries = entry["times_delivered"]
            await redis.xclaim(stream, ROLLOUT, "w1", 0, [entry["message_id"]], idle=60_000, justid=True)
        await asyncio.sleep(0.005)
