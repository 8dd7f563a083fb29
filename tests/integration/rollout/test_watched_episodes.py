"""Episodes that somebody watches, on real workers, environments and streams; nothing of them reaches the ledger."""

import asyncio

from services.contracts import ids, keys
from services.contracts.messages import OpenedGroup, encode
from services.contracts.watching import (
    FIELD,
    AnyShown,
    PlayBegan,
    PlayEnded,
    PlayFailed,
    StateReached,
    StepTaken,
    Waiting,
    decoded,
    encoded,
)
from services.ledger import GroupState
from tests.integration.rollout.fake_replica import FakeReplica, serving
from tests.integration.rollout.worker_process import HANGS_S, WorkedJob, worker_process

MOVES = ("go north", "go south", "go east", "go west")


async def told(redis, job: str, watch: str) -> list[AnyShown]:
    return [decoded(fields[FIELD.encode()]) for _, fields in await redis.xrange(keys.watch(job, watch))]


async def to_the_end(redis, job: str, watch: str) -> list[AnyShown]:
    async with asyncio.timeout(HANGS_S):
        while not isinstance((shown := await told(redis, job, watch))[-1], PlayEnded | PlayFailed):
            await asyncio.sleep(0.02)
    return shown


async def watch(redis, job: str, watch_id: str) -> None:
    """Somebody begins to watch."""
    await redis.xadd(keys.watch(job, watch_id), {FIELD: encoded(Waiting(message="not yet"))})


async def ask(redis, job: WorkedJob, watch_id: str, **changes) -> None:
    """Ask as the API does for an episode beside the job's groups."""
    group = OpenedGroup(
        job_id=job.job_id, group_id=watch_id, purpose="eval", cursor=0, task_seed=ids.task_seed(7, "eval", 0),
        split="train", n=1, min_version=0, **changes,
    )  # fmt: skip
    await redis.rpush(keys.plays(job.job_id), encode(group))


async def test_an_episode_is_played_for_whoever_watches_and_the_ledger_knows_nothing(
    redis, redis_url, env_address, tmp_path
):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin()
    await watch(redis, "job_a", "w1")
    await ask(redis, job, "w1")
    async with serving(FakeReplica(redis, job.job_id, job.replies(*MOVES))):
        with worker_process(redis_url, env_address, tmp_path):
            _, began, *steps, end = await to_the_end(redis, "job_a", "w1")
            trained = await job.open(0)  # groups go on beside it
            await asyncio.wait_for(job.reach(GroupState.COMPLETE, trained), HANGS_S)
    assert isinstance(began, PlayBegan)
    assert (began.max_turns, bool(began.task)) == (6, True)
    states, taken = steps[::2], steps[1::2]
    assert all(isinstance(one, StateReached) for one in states)
    assert all(isinstance(one, StepTaken) for one in taken)
    assert [one.step_index for one in states] == [one.step_index for one in taken] == list(range(len(states)))
    assert states[0].observation
    assert states[0].prompt
    assert states[0].admissible_actions
    assert {one.action for one in taken} <= set(MOVES)
    assert {one.reply for one in taken} <= set(MOVES)
    assert isinstance(end, PlayEnded)
    assert (end.steps, end.return_sum) == (len(taken), sum(one.reward for one in taken))
    balance = await job.ledger.balance()
    assert (balance.opened, balance.live, balance.holds) == (1, 1, True)
    assert await redis.xlen(keys.episodes_stream("job_a")) == 1


async def test_an_episode_that_nobody_watches_any_more_ends(redis, redis_url, env_address, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin()
    replica = FakeReplica(redis, job.job_id, job.replies(*MOVES))
    replica.silent = True
    await watch(redis, "job_a", "w1")
    await ask(redis, job, "w1")
    async with serving(replica):
        with worker_process(redis_url, env_address, tmp_path):
            async with asyncio.timeout(HANGS_S):
                while not replica.items:
                    await asyncio.sleep(0.02)
                await redis.delete(keys.watch("job_a", "w1"))
                replica.silent = False
                await replica.answer_late()
                await watch(redis, "job_a", "w2")
                await ask(redis, job, "w2")
            await to_the_end(redis, "job_a", "w2")
    assert not await redis.exists(keys.watch("job_a", "w1"))
    assert sum(name.startswith("job_a/w1/") for name in replica.sampled) == 1


async def test_an_episode_that_cannot_be_played_says_why_and_warns_nobody(redis, redis_url, env_address, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {"environment": "troubled", "environment_kwargs": {"raise_at": 2}})
    await job.begin()
    await watch(redis, "job_a", "w1")
    await ask(redis, job, "w1")
    async with serving(FakeReplica(redis, job.job_id, job.replies("go"))):
        with worker_process(redis_url, env_address, tmp_path):
            shown = await to_the_end(redis, "job_a", "w1")
    assert "broken on purpose" in shown[-1].message
    assert await redis.xlen(keys.events_stream("job_a")) == 0


async def test_what_is_no_play_is_left_out_and_the_next_one_played(redis, redis_url, env_address, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin()
    await redis.set(keys.plays("job_a"), "no list")
    async with serving(FakeReplica(redis, job.job_id, job.replies(*MOVES))):
        with worker_process(redis_url, env_address, tmp_path):
            async with asyncio.timeout(HANGS_S):
                while await redis.type(keys.plays("job_a")) == b"string":
                    await asyncio.sleep(0.02)
            await redis.rpush(keys.plays("job_a"), b"no group")
            await watch(redis, "job_a", "w1")
            await ask(redis, job, "w1")
            shown = await to_the_end(redis, "job_a", "w1")
    assert isinstance(shown[-1], PlayEnded)


async def test_a_watched_evaluation_is_told_and_recorded_as_any_other(redis, redis_url, env_address, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin()
    await redis.set(keys.watched("job_a"), "j1")
    await watch(redis, "job_a", "j1")
    async with serving(FakeReplica(redis, job.job_id, job.replies(*MOVES))):
        with worker_process(redis_url, env_address, tmp_path):
            group_id = await job.open(0, n=1, purpose="eval")
            await asyncio.wait_for(job.reach(GroupState.COMPLETE, group_id), HANGS_S)
            shown = await to_the_end(redis, "job_a", "j1")
            await redis.delete(keys.watch("job_a", "j1"))
            unseen = await job.open(1, n=1, purpose="eval")
            await asyncio.wait_for(job.reach(GroupState.COMPLETE, unseen), HANGS_S)
    assert [type(one).__name__ for one in shown[:4]] == ["Waiting", "PlayBegan", "StateReached", "StepTaken"]
    assert not await redis.exists(keys.watch("job_a", "j1"))
    assert (await job.ledger.balance()).holds
