"""Redis does not grow with the number of jobs that have ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
from redis.asyncio import Redis
from trainer_platform import VOCABULARY, register, small_spec

from services.contracts import keys
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.ledger.active_jobs import activate, active_jobs
from services.ledger.ended_jobs import KEEP_ENDED_S
from services.trainer.job.warm_sessions import WarmSessions
from services.trainer.settings import Settings


def unstartable() -> JobSpec:
    spec = small_spec()
    return spec.model_copy(update={"model": spec.model.model_copy(update={"model": "/no/such/model", "scratch": None})})


async def dispatched(redis: Redis, job: str, spec: JobSpec | None) -> None:
    """Deactivate the job as the API does; without a spec it has no summary either."""
    await redis.set(keys.environment(job), EnvironmentInfo(id="scripted", vocabulary=VOCABULARY).model_dump_json())
    if spec is not None:
        await redis.set(keys.spec(job), spec.model_dump_json())
    await redis.set(keys.control(job), "run")


async def lasting(redis: Redis) -> set[bytes]:
    """Keys that will never go by themselves."""
    return {key async for key in redis.scan_iter() if await redis.ttl(key) == -1}


def run(redis_url: str, folder: Path, *jobs: str) -> None:
    sessions = WarmSessions(Settings(redis_url=redis_url, data_dir=folder), structlog.get_logger(), lambda: False)
    try:
        for job in jobs:
            assert sessions.run(job, None) is None
    finally:
        assert sessions._redis is not None
        sessions._runner.run(sessions._redis.aclose())
        sessions._runner.close()


async def test_what_ended_jobs_leave_in_redis_goes_after_a_while(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    await register(redis, "j0")
    before = await lasting(redis)
    for job in ("j1", "j2", "j3"):
        await dispatched(redis, job, unstartable() if job != "j3" else None)
    await asyncio.to_thread(run, redis_url, tmp_path, "j1", "j2", "j3")
    assert await lasting(redis) == before
    assert KEEP_ENDED_S - 600 < await redis.ttl(keys.events_stream("j1")) <= KEEP_ENDED_S


async def test_a_job_that_has_ended_but_redis_forgot_it_holds_no_replica(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    await register(redis, "j1")
    await dispatched(redis, "j1", unstartable())
    await asyncio.to_thread(run, redis_url, tmp_path, "j1")
    await activate(redis, "j1")
    await redis.set(keys.deleted("j2"), b"1")
    await activate(redis, "j2")
    await asyncio.to_thread(run, redis_url, tmp_path, "j1", "j2")
    assert await active_jobs(redis) == set()
