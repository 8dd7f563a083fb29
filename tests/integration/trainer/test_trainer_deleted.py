"""A message of a job that was deleted meanwhile: a cancelled job's waits in the queue until a trainer comes to it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
from redis.asyncio import Redis

from services.contracts import keys
from services.trainer.job.continuation import Continuation
from services.trainer.job.warm_sessions import WarmSessions
from services.trainer.settings import Settings


async def test_a_trainer_does_nothing_for_a_deleted_job(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    await redis.set(keys.deleted("j1"), b"1")
    sessions = WarmSessions(Settings(redis_url=redis_url, data_dir=tmp_path), structlog.get_logger(), lambda: False)
    assert await asyncio.to_thread(_run_and_close, sessions) is None
    assert await redis.keys("*") == [keys.deleted("j1").encode()]
    assert list(tmp_path.iterdir()) == []


def _run_and_close(sessions: WarmSessions) -> Continuation | None:
    try:
        return sessions.run("j1", None)
    finally:
        assert sessions._redis is not None
        sessions._runner.run(sessions._redis.aclose())
        sessions._runner.close()
