"""Two trainers at one queue: a job stays with one of them, and none fails for want of an inference replica."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis
from trainer_platform import (
    NO_CURSOR,
    children,
    events,
    metrics_of,
    one_replica,
    small_spec,
    submit,
    summary_of,
    surroundings,
    trainer_process,
    until_event,
    until_state,
)

from services.contracts import keys

SPEC = {"evaluation": {"eval_baselines": False, "eval_episodes": 3}}


async def states(redis: Redis, job: str) -> list[str]:
    return [str(event.data["state"]) for event in await events(redis, job) if event.kind == "state"]


def logs(data_dir: Path) -> list[Path]:
    return sorted(data_dir.glob("trainer-*.log"))


async def test_a_job_stays_with_one_of_two_idle_trainers(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    with trainer_process(redis_url, tmp_path), trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a"):
            await submit(redis, redis_url, "job_a", small_spec(**SPEC))
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    assert len(metrics_of(tmp_path, "job_a")) == 4
    assert int(await redis.get(keys.epoch("job_a"))) == 1, "only one trainer ever claimed it"


async def test_a_job_whose_trainer_is_killed_goes_on_at_the_other_one(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    limits = {"visibility_timeout_s": 4}
    async with surroundings(redis, redis_url, "job_a") as rollout:
        rollout.held_from = 6
        with trainer_process(redis_url, tmp_path, **limits) as first:
            await submit(redis, redis_url, "job_a", small_spec(**SPEC, checkpoint={"checkpoint_every": 1}))
            await until_event(redis, "job_a", "metrics", batch=1)
            with trainer_process(redis_url, tmp_path, **limits):
                first.kill()
                await asyncio.to_thread(first.wait)
                rollout.held_from = NO_CURSOR
                assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    assert int(await redis.get(keys.epoch("job_a"))) == 2


async def test_three_jobs_end_with_two_trainers_and_one_replica(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    jobs = ("job_a", "job_b", "job_c")
    async with AsyncExitStack() as around:
        await around.enter_async_context(one_replica(redis_url, tmp_path))
        for job in jobs:
            await around.enter_async_context(surroundings(redis, redis_url, job, replica=False))
            await submit(redis, redis_url, job, small_spec(**SPEC), priority=9)
        with ExitStack() as trainers:
            for _ in range(2):
                settings = {"ack_timeout_s": 1.5, "room_wait_s": 1}
                trainers.enter_context(trainer_process(redis_url, tmp_path, **settings))
            for job in jobs:
                assert await until_state(redis, job, "SUCCEEDED", "FAILED") == "SUCCEEDED", await events(redis, job)
    told = [event.data.get("reason") for job in jobs for event in await events(redis, job) if event.kind == "state"]
    assert "waits for an inference replica: all 1 serve other jobs" in told


async def test_a_killed_trainers_job_goes_on_though_another_job_waits_for_its_replica(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    """One trainer, one replica: the new trainer takes b first, as a's message comes back only after a while."""
    settings = {"visibility_timeout_s": 4, "ack_timeout_s": 3, "room_wait_s": 1}
    async with (
        one_replica(redis_url, tmp_path),
        surroundings(redis, redis_url, "job_a", replica=False) as rollout,
        surroundings(redis, redis_url, "job_b", replica=False),
    ):
        rollout.held_from = 3
        with trainer_process(redis_url, tmp_path, **settings) as first:
            await submit(redis, redis_url, "job_a", small_spec(**SPEC), priority=9)
            await until_event(redis, "job_a", "metrics", batch=0)
            await submit(redis, redis_url, "job_b", small_spec(**SPEC), priority=9)
            first.kill()
            await asyncio.to_thread(first.wait)
        rollout.held_from = NO_CURSOR
        with trainer_process(redis_url, tmp_path, **settings):
            for job in ("job_a", "job_b"):
                assert await until_state(redis, job, "SUCCEEDED", "FAILED") == "SUCCEEDED"
    begun = await until_event(redis, "job_b", "state", state="RUNNING")
    ended = await until_event(redis, "job_a", "state", state="SUCCEEDED")
    assert begun.at_unix_s >= ended.at_unix_s, "it did not begin before there was room"


async def test_a_job_that_waits_for_a_replica_is_cancelled_at_once(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    async with (
        one_replica(redis_url, tmp_path),
        surroundings(redis, redis_url, "job_a", replica=False) as rollout,
        surroundings(redis, redis_url, "job_b", replica=False),
    ):
        rollout.held_from = 3
        with trainer_process(redis_url, tmp_path), trainer_process(redis_url, tmp_path):
            await submit(redis, redis_url, "job_a", small_spec(**SPEC))
            await until_event(redis, "job_a", "metrics", batch=0)
            await submit(redis, redis_url, "job_b", small_spec(**SPEC))
            await until_state(redis, "job_b", "QUEUED")
            await redis.set(keys.control("job_b"), "cancel")
            assert await until_state(redis, "job_b", "CANCELLED", "FAILED") == "CANCELLED"
            assert "SUCCEEDED" not in await states(redis, "job_a")
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"


async def queued_for(redis: Redis, job: str, reason: str) -> None:
    await until_event(redis, job, "state", state="QUEUED", reason=reason)


async def test_a_job_waits_for_a_replica_that_is_not_there_yet_or_no_more(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    reason = "waits for an inference replica: none is running"
    settings = {"ack_timeout_s": 1, "room_wait_s": 1}
    async with surroundings(redis, redis_url, "job_a", replica=False) as rollout:
        rollout.held_from = 3
        with trainer_process(redis_url, tmp_path, **settings):
            await submit(redis, redis_url, "job_a", small_spec(**SPEC))
            await queued_for(redis, "job_a", reason)
            async with one_replica(redis_url, tmp_path):
                await until_event(redis, "job_a", "metrics", batch=0)
            rollout.held_from = NO_CURSOR
            await until_event(redis, "job_a", "state", 2, state="QUEUED", reason=reason)
            async with one_replica(redis_url, tmp_path, "r2"):
                assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"


@pytest.mark.parametrize("service", ["rollout", "advantage"])
async def test_a_job_waits_for_a_service_that_is_not_there(
    redis: Redis, redis_url: str, tmp_path: Path, service: str
) -> None:
    async with surroundings(redis, redis_url, "job_a") as rollout:
        rollout.held_from = 0
        await redis.delete(keys.service_heartbeat(service, "scripted"))
        with trainer_process(redis_url, tmp_path, room_wait_s=1):
            await submit(redis, redis_url, "job_a", small_spec(**SPEC, limits={"batch_timeout_s": 2.0}))
            await queued_for(redis, "job_a", f"waits for the {service} service: none is running")
            await redis.set(keys.service_heartbeat(service, "scripted"), b"")
            await redis.set(keys.control("job_a"), "cancel")
            assert await until_state(redis, "job_a", "CANCELLED", "FAILED") == "CANCELLED"


async def kill_three_who_take_it(redis: Redis, job: str, trainer: subprocess.Popen[bytes]) -> None:
    """Kill the trainer's child each time that it has claimed the job."""
    for epoch in (1, 2, 3):
        while int(await redis.get(keys.epoch(job)) or 0) < epoch:
            await asyncio.sleep(0.02)
        for child in children(trainer):
            os.kill(child, signal.SIGKILL)


async def test_a_job_that_ends_every_trainer_is_warned_of_and_then_failed(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    with trainer_process(redis_url, tmp_path, fruitless_takes=2) as trainer:
        async with surroundings(redis, redis_url, "job_a") as rollout:
            rollout.held_from = 0
            await submit(redis, redis_url, "job_a", small_spec(**SPEC))
            await until_event(redis, "job_a", "phase", phase="training")
            await kill_three_who_take_it(redis, "job_a", trainer)
            failed = await until_event(redis, "job_a", "state", state="FAILED")
    assert "took the job up 2 times in a row without a new batch" in failed.data["error"]
    warning = await until_event(redis, "job_a", "warning")
    assert "no progress" in warning.data["message"]
    assert summary_of(tmp_path, "job_a")["state"] == "FAILED"


async def test_a_frozen_trainer_that_wakes_leaves_its_successors_message_alone(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    settings = {"visibility_timeout_s": 3}
    async with surroundings(redis, redis_url, "job_a") as rollout:
        rollout.held_from = 3
        with trainer_process(redis_url, tmp_path, **settings) as first:
            await submit(redis, redis_url, "job_a", small_spec(**SPEC))
            await until_event(redis, "job_a", "metrics", batch=0)
            frozen = [first.pid, *children(first)]
            with trainer_process(redis_url, tmp_path, **settings):
                for pid in frozen:
                    os.kill(pid, signal.SIGSTOP)
                while int(await redis.get(keys.epoch("job_a"))) == 1:
                    await asyncio.sleep(0.05)
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
                while b"another trainer holds the job" not in b"".join(log.read_bytes() for log in logs(tmp_path)):
                    await asyncio.sleep(0.05)
                await asyncio.sleep(1)  # now it acknowledges what it held
                assert await redis.hlen("unacked") == 1
                rollout.held_from = NO_CURSOR
                assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    assert int(await redis.get(keys.epoch("job_a"))) == 2


async def test_a_dead_trainers_job_is_taken_up_when_its_heartbeat_is_gone(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    """Not only when its message's visibility timeout has passed, which is longer than this test takes."""
    settings = {"visibility_timeout_s": 3_600}
    async with surroundings(redis, redis_url, "job_a") as rollout:
        rollout.held_from = 3
        with trainer_process(redis_url, tmp_path, **settings) as first:
            await submit(redis, redis_url, "job_a", small_spec(**SPEC))
            await until_event(redis, "job_a", "metrics", batch=0)
            with trainer_process(redis_url, tmp_path, **settings):
                first.kill()
                await asyncio.to_thread(first.wait)
                rollout.held_from = NO_CURSOR
                assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
                while await redis.hlen(keys.MESSAGE_HOLDERS):
                    await asyncio.sleep(0.05)
    assert int(await redis.get(keys.epoch("job_a"))) == 2
