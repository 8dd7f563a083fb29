"""A ledger whose server lost the end of its file is brought to the books of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.ids import Purpose, group_id
from services.contracts.messages import Episode, OpenedGroup, ScoredGroup
from services.kit.redis import connect
from services.ledger import Books, DropReason, GroupState, Ledger, StaleEpoch
from services.stack.valkey import ValkeyPlan, plan_valkey
from tests.killed_redis import appended, killed_redis

JOB, OTHER = "job_1", "job_2"


class Job:
    """A trainer's moves, one group of one episode at a time."""

    def __init__(self, redis: Redis) -> None:
        self.ledger, self.epoch = Ledger(redis, JOB), 0

    async def open(self, *cursors: int, purpose: Purpose = "train") -> None:
        for cursor in cursors:
            await self.ledger.open(self.epoch, group_at(cursor, purpose), 3)

    async def play(self, *cursors: int, purpose: Purpose = "train") -> None:
        for cursor in cursors:
            group = group_at(cursor, purpose)
            name = group.group_id
            attempt = (await self.ledger.start(name, "w")).number
            episode = Episode(
                group_id=name, episode_id=f"{name}/0", k=0, attempt=attempt, task="", steps=[], won=False, score=0.0,
                terminated=False, truncated=True, worker="w",
            )  # fmt: skip
            await self.ledger.record(episode, group)
            await self.ledger.score(
                ScoredGroup(
                    group_id=name,
                    purpose=purpose,
                    cursor=cursor,
                    advantage=b"",
                    episode_advantage=b"",
                    step_advantage=b"",
                    step_return=b"",
                    step_group=b"",
                    episodes_sha="",
                )
            )

    async def train(self, batch: int, *cursors: int) -> None:
        await self.ledger.assign(self.epoch, batch, "{}", [name_of(cursor) for cursor in cursors])


def group_at(cursor: int, purpose: Purpose) -> OpenedGroup:
    return OpenedGroup(
        job_id=JOB, group_id=name_of(cursor, purpose), purpose=purpose, cursor=cursor, task_seed=0, split="train", n=1,
        min_version=0,
    )  # fmt: skip


def name_of(cursor: int, purpose: Purpose = "train") -> str:
    return group_id("f", purpose, 0, cursor)


async def live_until_checkpoint(job: Job, plan: ValkeyPlan) -> tuple[list[int], Books, dict[bytes, bytes]]:
    """Sizes of the file after each step; the books at the end, when 0 and 1 are consumed, 2 and 3 trained, 4 dropped
    and 5 and 6 under way."""
    sizes: list[int] = []

    def note() -> None:
        sizes.append(appended(plan.log.parent).stat().st_size)

    job.epoch = await job.ledger.claim_epoch()
    note()
    await job.open(0, 1, 2)
    note()
    await job.play(0, 1, 2)
    await job.train(0, 0, 1)
    await job.open(3, 4, 5, 6)
    await job.play(3, 5)
    note()
    await job.ledger.drop(job.epoch, name_of(4), DropReason.FILTERED)
    await job.train(1, 2, 3)
    note()
    await job.ledger.consume(job.epoch, 0, [name_of(0), name_of(1)])
    books = await job.ledger.seal(job.epoch, [name_of(2), name_of(3)])
    return sizes, books, await job.ledger._redis.hgetall(keys.ledger(JOB))


@pytest.mark.parametrize("kept", range(4))
async def test_a_ledger_of_an_earlier_instant_comes_to_the_books(tmp_path: Path, kept: int) -> None:
    plan = plan_valkey(tmp_path)
    with killed_redis(plan):
        async with connect(plan.url) as redis:
            sizes, books, counters = await live_until_checkpoint(Job(redis), plan)
    with appended(plan.log.parent).open("rb+") as file:
        file.truncate(sizes[kept])
    with killed_redis(plan):
        async with connect(plan.url) as redis:
            job = Job(redis)
            job.epoch = await job.ledger.claim_epoch()
            assert await job.ledger.catch_up(job.epoch, books)
            assert not await job.ledger.catch_up(job.epoch, books), "once"
            await job.open(5, 6)  # as a trainer does with what waits
            for number in await job.ledger.manifests():
                records = {name: await job.ledger.record_of(name) for name in await job.ledger.live()}
                names = [name for name, one in records.items() if one is not None and one.batch == number]
                await job.ledger.consume(job.epoch, number, names)
            balance, found = await job.ledger.balance(), await redis.hgetall(keys.ledger(JOB))
            assert await job.ledger.live() == sorted([name_of(5), name_of(6)])
            assert await redis.xlen(keys.scored_stream(JOB)) <= 1, "nobody is told of a group that is gone"
    assert (balance.opened, balance.consumed, balance.dropped["filtered"], balance.live) == (7, 4, 1, 2)
    assert balance.holds
    assert found[b"opened:train"] == counters[b"opened:train"]
    assert found[b"consumed:train"] == b"4"


async def test_a_ledger_that_lost_nothing_and_that_of_another_job_stay_as_they_are(redis: Redis) -> None:
    job = Job(redis)
    job.epoch = await job.ledger.claim_epoch()
    await job.open(0, 1)
    books = await job.ledger.seal(job.epoch, [])
    await job.open(2)
    assert not await job.ledger.catch_up(job.epoch, books)
    other = Ledger(redis, OTHER)
    assert not await other.catch_up(await other.claim_epoch(), books)
    assert (await job.ledger.balance()).opened == 3
    assert (await other.balance()).opened == 0
    await job.ledger.claim_epoch()
    with pytest.raises(StaleEpoch):
        await job.ledger.seal(job.epoch, [])


async def test_groups_whose_results_are_durable_are_counted_once(redis: Redis) -> None:
    job, names = Job(redis), [name_of(cursor, "eval") for cursor in range(4)]
    job.epoch = await job.ledger.claim_epoch()
    await job.open(0, 1, 2, purpose="eval")  # Redis does not know the last one
    await job.play(0, 1, purpose="eval")
    await job.ledger.assign(job.epoch, -1, "{}", names[:1])
    await job.ledger.consume(job.epoch, -1, names[:1])
    assert await job.ledger.settle(job.epoch, -1, names) == 3
    assert await job.ledger.settle(job.epoch, -1, names) == 0
    balance = await job.ledger.balance()
    assert (balance.opened, balance.consumed, balance.live, balance.holds) == (4, 4, 0, True)
    assert await redis.xlen(keys.groups_stream(JOB)) == await redis.xlen(keys.scored_stream(JOB)) == 0
    record = await job.ledger.record_of(names[0])
    assert record is not None
    assert record.state is GroupState.CONSUMED
