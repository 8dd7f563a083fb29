"""Rollout workers as processes: what they find, what survives them, how they stop."""

import asyncio
import signal

import grpc
import pytest
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

from services.contracts import keys
from services.contracts.messages import Episode, JobEvent, decode, encode
from services.kit.dead_letters import dead_letters
from services.ledger import GroupState
from services.ledger.ledger import ROLLOUT
from services.ledger.presence import present_instances
from tests.integration.rollout.conftest import env_process
from tests.integration.rollout.fake_replica import FakeReplica, serving
from tests.integration.rollout.worker_process import HANGS_S, WorkedJob, worker_process

SMALL = 4
"""Leases of an environment service in which a group of four fills everything."""
MOVES = ("go north", "go south", "go east", "go west")


async def episodes(job: WorkedJob, group_id: str) -> list[Episode]:
    return [decode(payload, Episode) for payload in await job.ledger.episodes_of(group_id)]


async def pending(redis, job: WorkedJob) -> int:
    return (await redis.xpending(keys.groups_stream(job.job_id), ROLLOUT))["pending"]


async def touched(redis, job: WorkedJob, *, times: int) -> None:
    """Return once a worker has restarted the clock of the one group that is being played so often."""
    idle = 0
    while times:
        for entry in await redis.xpending_range(keys.groups_stream(job.job_id), ROLLOUT, "-", "+", 1):
            times -= entry["time_since_delivered"] < idle
            idle = entry["time_since_delivered"]
        await asyncio.sleep(0.02)


async def test_a_worker_plays_the_groups_of_every_active_job(redis, redis_url, env_address, tmp_path):
    jobs = [WorkedJob(redis, tmp_path, name, {}) for name in ("job_a", "job_b")]
    for job in jobs:
        await job.begin(base=False)  # the trainer is still making the policy's folder
    with worker_process(redis_url, env_address, tmp_path) as worker:
        opened = [[await job.open(cursor) for cursor in range(6)] for job in jobs]
        for job in jobs:
            await job.set_base()
        replicas = [FakeReplica(redis, job.job_id, job.replies(*MOVES), name=f"r_{job.job_id}") for job in jobs]
        async with serving(replicas[0]), serving(replicas[1]):
            for job, group_ids in zip(jobs, opened, strict=True):
                await asyncio.wait_for(job.reach(GroupState.COMPLETE, *group_ids), HANGS_S)
        (alive,) = await present_instances(redis)
        assert (alive.service, alive.pid) == ("rollout", worker.pid)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(HANGS_S) == 0
    for job, group_ids, replica in zip(jobs, opened, replicas, strict=True):
        assert await redis.xlen(keys.groups_stream(job.job_id)) == 0
        assert await redis.xlen(keys.episodes_stream(job.job_id)) == 6
        assert (await job.ledger.balance()).holds
        played = [episode for group_id in group_ids for episode in await episodes(job, group_id)]
        assert len({episode.worker for episode in played}) == 1
        assert sum(len(episode.steps) for episode in played) == len(replica.sampled)
    assert not [key async for key in redis.scan_iter("*rollout*") if b"replies" in key or b"alive" in key]


async def test_an_infra_fault_is_played_again_and_never_becomes_a_reward(redis, redis_url, env_address, tmp_path):
    kwargs = {"die_once": str(tmp_path / "died"), "steps_file": str(tmp_path / "steps")}
    job = WorkedJob(redis, tmp_path, "job_a", {"environment": "troubled", "environment_kwargs": kwargs})
    await job.begin()
    replica = FakeReplica(redis, job.job_id, job.replies("go"))
    with worker_process(redis_url, env_address, tmp_path):
        group_id = await job.open(0, n=2)
        async with serving(replica):
            await asyncio.wait_for(job.reach(GroupState.COMPLETE, group_id), HANGS_S)
    assert (tmp_path / "died").exists()
    played = await episodes(job, group_id)
    assert {(episode.attempt, episode.won, len(episode.steps)) for episode in played} == {(2, True, 4)}
    assert all([step.reward for step in episode.steps] == [0.0, 0.0, 0.0, 1.0] for episode in played)
    balance = await job.ledger.balance()
    assert (balance.retried, balance.live, balance.holds) == (1, 1, True)
    record = await job.ledger.record_of(group_id)
    assert record is not None
    assert "infra" in (record.cause or "")


async def test_a_defect_of_the_environment_drops_the_group_after_the_last_attempt(
    redis, redis_url, env_address, tmp_path
):
    job = WorkedJob(redis, tmp_path, "job_a", {"environment": "troubled", "environment_kwargs": {"raise_at": 2}})
    await job.begin()
    with worker_process(redis_url, env_address, tmp_path):
        group_id = await job.open(0, actor="random")
        await asyncio.wait_for(job.reach(GroupState.DROPPED, group_id), HANGS_S)
    record = await job.ledger.record_of(group_id)
    assert record is not None
    assert (record.reason, record.attempt) == ("env_bug", 3)
    assert "broken on purpose" in (record.cause or "")
    balance = await job.ledger.balance()
    assert (balance.dropped["env_bug"], balance.live, balance.holds) == (1, 0, True)


@pytest.fixture
def small_env():
    with env_process(ENV_SERVICE_MAX_LEASES=str(SMALL), ENV_SERVICE_LEASE_TTL_S="2") as address:
        yield address


async def test_another_worker_finishes_what_a_killed_one_began(redis, redis_url, small_env, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin()
    replica = FakeReplica(redis, job.job_id, job.replies(*MOVES))
    replica.silent = True
    async with serving(replica):
        with worker_process(redis_url, small_env, tmp_path) as first:
            group_ids = [await job.open(0)]
            while replica.items < 4:
                await asyncio.sleep(0.02)
            first.kill()
            first.wait()
        assert await pending(redis, job) == 1
        replica.silent = False
        with worker_process(redis_url, small_env, tmp_path, ROLLOUT_RECLAIM_IDLE_S="1") as second:
            await asyncio.wait_for(job.reach(GroupState.COMPLETE, *group_ids), HANGS_S)
            second.send_signal(signal.SIGTERM)
            assert second.wait(HANGS_S) == 0
    await asyncio.wait_for(no_lease_is_left(small_env), HANGS_S)
    for group_id in group_ids:
        played = await episodes(job, group_id)
        assert [(episode.k, episode.attempt) for episode in played] == [(k, 2) for k in range(4)]
        for episode in played:
            for step in episode.steps:
                item = replica.sampled[f"job_a/{episode.episode_id}:{step.step_index}:2"]
                assert step.response_ids == item.response_ids
    assert (await job.ledger.balance()).holds
    assert await pending(redis, job) == 0


async def test_a_long_group_stays_with_its_living_worker(redis, redis_url, env_address, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {"environment": "troubled"})
    await job.begin()
    replica = FakeReplica(redis, job.job_id, job.replies("go"))
    replica.silent = True
    async with serving(replica):
        with worker_process(redis_url, env_address, tmp_path, ROLLOUT_RECLAIM_IDLE_S="1"):
            group_id = await job.open(0)
            while not replica.items:
                await asyncio.sleep(0.02)
            await touched(redis, job, times=4)  # for longer than makes an untouched group free for the taking
            replica.silent = False
            await replica.answer_late()
            await asyncio.wait_for(job.reach(GroupState.COMPLETE, group_id), HANGS_S)
    assert {episode.attempt for episode in await episodes(job, group_id)} == {1}


async def test_sigterm_finishes_what_is_under_way_and_begins_nothing(redis, redis_url, env_address, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {"environment": "troubled"})
    await job.begin()
    replica = FakeReplica(redis, job.job_id, job.replies("go"))
    replica.late_s = 0.3
    async with serving(replica):
        with worker_process(redis_url, env_address, tmp_path, ROLLOUT_MAX_EPISODES="4") as worker:
            first, second = [await job.open(cursor) for cursor in range(2)]
            while replica.items < 4:
                await asyncio.sleep(0.02)
            worker.send_signal(signal.SIGTERM)
            await asyncio.to_thread(worker.wait, HANGS_S)
            assert worker.returncode == 0
    states = {(await job.ledger.record_of(group_id)).state for group_id in (first, second)}
    assert states == {GroupState.COMPLETE, GroupState.OPEN}


async def test_a_drain_that_takes_too_long_leaves_its_groups_and_no_lease(redis, redis_url, small_env, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin()
    replica = FakeReplica(redis, job.job_id, job.replies(*MOVES))
    replica.silent = True
    async with serving(replica):
        with worker_process(redis_url, small_env, tmp_path, ROLLOUT_DRAIN_S="0.2") as worker:
            group_id = await job.open(0)
            while replica.items < 4:
                await asyncio.sleep(0.02)
            worker.send_signal(signal.SIGTERM)
            await asyncio.to_thread(worker.wait, HANGS_S)
            assert worker.returncode == 0
    record = await job.ledger.record_of(group_id)
    assert (record.state, record.attempt) == (GroupState.GENERATING, 1)
    await asyncio.wait_for(no_lease_is_left(small_env), HANGS_S)


async def no_lease_is_left(address: str) -> None:
    """Return once all of the small service's leases can be opened."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = env_pb2_grpc.EnvironmentServiceStub(channel)
        while True:
            request = env_pb2.OpenGroupRequest(idempotency_key="probe", environment="grid", n=SMALL)
            try:
                opened = await stub.OpenGroup(request)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017 - one status is waited out
                await asyncio.sleep(0.05)
            else:
                await stub.Close(env_pb2.CloseRequest(leases=opened.leases))
                return


async def test_a_job_that_ended_is_left_at_once(redis, redis_url, small_env, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin()
    replica = FakeReplica(redis, job.job_id, job.replies(*MOVES))
    replica.silent = True
    async with serving(replica):
        with worker_process(redis_url, small_env, tmp_path, ROLLOUT_DRAIN_S="60") as worker:
            await job.open(0)
            while replica.items < 4:
                await asyncio.sleep(0.02)
            await redis.srem(keys.ACTIVE_JOBS, job.job_id)
            await asyncio.wait_for(no_lease_is_left(small_env), HANGS_S)
            worker.send_signal(signal.SIGTERM)
            await asyncio.to_thread(worker.wait, HANGS_S)
            assert worker.returncode == 0


POISON = [
    {b"q": b"x"},
    {b"p": b""},
    {b"p": b"\xff\xfe"},
    {b"p": b"\xff" * 20_000_000},
    {b"p": encode(JobEvent(kind="state", at_unix_s=0.0, data={}))},
]


async def test_entries_that_are_no_group_are_refused_at_once_and_the_groups_are_played(
    redis, redis_url, env_address, tmp_path
):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin()
    replica = FakeReplica(redis, job.job_id, job.replies(*MOVES))
    poison = [(await redis.xadd(keys.groups_stream("job_a"), fields)) for fields in POISON]
    settings = {"ROLLOUT_RECLAIM_IDLE_S": "3600"}
    async with serving(replica):
        with worker_process(redis_url, env_address, tmp_path, **settings):
            group_id = await job.open(0)
            await asyncio.wait_for(job.reach(GroupState.COMPLETE, group_id), HANGS_S)
    letters = await redis.xrange(dead_letters(keys.groups_stream("job_a")))
    assert [letter[b"id"] for _, letter in letters] == poison
    warned = [decode(event[b"p"], JobEvent) for _, event in await redis.xrange(keys.events_stream("job_a"))]
    assert [
        letter[b"cause"].decode() in event.data["message"] for (_, letter), event in zip(letters, warned, strict=True)
    ] == [True] * len(POISON)
    assert await pending(redis, job) == 0


async def test_what_is_spoiled_of_one_job_stops_no_other(redis, redis_url, env_address, tmp_path):
    spoiled = [WorkedJob(redis, tmp_path, name, {}) for name in ("bad_stream", "bad_spec", "bad_base", "bad_group")]
    for job in spoiled:
        await job.begin()
    await redis.set(keys.groups_stream("bad_stream"), "x")
    await redis.set(keys.spec("bad_spec"), b"\xff{")
    await redis.set(keys.base("bad_base"), b"\xff\xfe")
    await redis.set(keys.group("bad_group", await spoiled[3].open(0)), "x")
    await redis.sadd(keys.ACTIVE_JOBS, b"\xff\xfe", "nobody", "")
    good = WorkedJob(redis, tmp_path, "good", {})
    await good.begin()
    replica = FakeReplica(redis, "good", good.replies(*MOVES))
    async with serving(replica):
        with worker_process(redis_url, env_address, tmp_path) as worker:
            for cursor in range(2):
                await asyncio.wait_for(good.reach(GroupState.COMPLETE, await good.open(cursor)), HANGS_S)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(HANGS_S) == 0
