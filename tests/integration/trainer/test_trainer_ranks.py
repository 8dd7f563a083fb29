"""A trainer whose learner is a group of two ranks."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from subprocess import Popen

from redis.asyncio import Redis

from services.ledger import Ledger
from tests.integration.trainer.trainer_platform import (
    children,
    descendants,
    metrics_of,
    small_spec,
    submit,
    summary_of,
    surroundings,
    trainer_process,
    until_event,
    until_state,
    weights_sha,
)

SPEC = {"evaluation": {"eval_baselines": False, "eval_episodes": 2}, "training": {"total_batches": 3}}


def rank(trainer: Popen[bytes], number: int) -> int:
    """Pid of a rank."""
    for pid in descendants(children(trainer)[0]):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"RANK={number}".encode() in environment:
            return pid
    raise AssertionError(f"no rank {number}")


async def test_a_killed_rank_gives_the_job_back_and_the_same_batches_are_trained_again(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    with trainer_process(redis_url, tmp_path, ranks=2) as trainer:
        async with surroundings(redis, redis_url, "whole"):
            await submit(redis, redis_url, "whole", small_spec(**SPEC))
            assert await until_state(redis, "whole", "SUCCEEDED", "FAILED") == "SUCCEEDED"
        async with surroundings(redis, redis_url, "cut") as rollout:
            rollout.held_from = 6  # of two batches
            await submit(redis, redis_url, "cut", small_spec(**SPEC))
            await until_event(redis, "cut", "metrics")
            processes = descendants(children(trainer)[0])
            os.kill(rank(trainer, 1), signal.SIGKILL)
            rollout.held_from = 10**9
            warning = await until_event(redis, "cut", "warning")
            assert await until_state(redis, "cut", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    assert warning.data["message"].startswith("one of the 2 ranks of the learner ended")
    assert weights_sha(tmp_path, "cut") == weights_sha(tmp_path, "whole")
    assert metrics_of(tmp_path, "cut") == metrics_of(tmp_path, "whole")
    assert [summary_of(tmp_path, job)["ranks"] for job in ("whole", "cut")] == [2, 2]
    assert (await Ledger(redis, "cut").balance()).live == 0
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
