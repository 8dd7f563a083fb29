"""The end of Redis's append-only file is lost, as in a power cut: the ledger still tells what was trained."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from trainer_platform import (
    enqueue,
    events,
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

from services.contracts import keys
from services.kit.redis import connect
from services.ledger import Ledger
from services.stack.valkey import ValkeyPlan, plan_valkey
from tests.killed_redis import appended, killed_redis

SPEC = {
    "model": {"warmstart": {"warmstart_rows": 16, "warmstart_steps": 2, "warmstart_max_invalid": 1.0}},
    "evaluation": {"eval_baselines": False, "eval_episodes": 3, "eval_every": 1},
}


@asynccontextmanager
async def connected(plan: ValkeyPlan) -> AsyncIterator[Redis]:
    async with connect(plan.url) as redis:
        yield redis


async def train(plan: ValkeyPlan, data_dir: Path) -> None:
    """The job from where it stands to its end."""
    async with connected(plan) as redis, surroundings(redis, plan.url, "job_p"):
        with trainer_process(plan.url, data_dir):
            assert await until_state(redis, "job_p", "SUCCEEDED", "FAILED") == "SUCCEEDED", await events(redis, "job_p")


async def play_until_batch_three(plan: ValkeyPlan, data_dir: Path, cut_at: dict[str, object]) -> int:
    """Train until the checkpoint of batch 2 and one batch more; the size of the file at the event `cut_at`."""
    async with connected(plan) as redis, surroundings(redis, plan.url, "job_p") as rollout:
        rollout.held_from, rollout.holds = 9, {"train"}
        await submit(redis, plan.url, "job_p", small_spec(**SPEC))
        with trainer_process(plan.url, data_dir) as trainer:
            await until_event(redis, "job_p", **cut_at)
            size = appended(data_dir.parent / "valkey").stat().st_size
            await until_event(redis, "job_p", "evaluation", label="during", version=3)
            trainer.kill()
            await asyncio.to_thread(trainer.wait)
    return size


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bytes, bytes]]:
    """The data folder of a job without a power cut, and its ledger."""
    folder = tmp_path_factory.mktemp("undisturbed")
    plan, data_dir = plan_valkey(folder / "valkey"), folder / "data"
    data_dir.mkdir()

    async def run() -> dict[bytes, bytes]:
        async with connected(plan) as redis:
            await submit(redis, plan.url, "job_p", small_spec(**SPEC))
        await train(plan, data_dir)
        async with connected(plan) as redis:
            return await counters(redis)

    with killed_redis(plan):
        return data_dir, asyncio.run(run())


async def counters(redis: Redis) -> dict[bytes, bytes]:
    """The summary without what a crash may change: how many checkpoints there were, and attempts."""
    found = await redis.hgetall(keys.ledger("job_p"))
    return {name: value for name, value in found.items() if name not in (b"seal", b"retried")}


@pytest.mark.parametrize(
    "cut_at",
    [
        {"kind": "phase", "phase": "warmstart"},
        {"kind": "metrics", "batch": 0},
        {"kind": "metrics", "batch": 2},
    ],
    ids=["warm start", "batch 0", "batch 2"],
)
async def test_what_was_trained_is_counted_though_redis_lost_it(
    tmp_path: Path, undisturbed: tuple[Path, dict[bytes, bytes]], cut_at: dict[str, object]
) -> None:
    plan, data_dir = plan_valkey(tmp_path / "valkey"), tmp_path / "data"
    data_dir.mkdir()
    with killed_redis(plan):
        size = await play_until_batch_three(plan, data_dir, cut_at)
    with appended(tmp_path / "valkey").open("rb+") as file:
        file.truncate(size - 7)  # in the middle of a command, as it happens
    with killed_redis(plan):
        async with connected(plan) as redis:
            await enqueue(plan.url, "job_p")  # as the API does where Redis has lost the message
        await train(plan, data_dir)
        async with connected(plan) as redis:
            balance, found = await Ledger(redis, "job_p").balance(), await counters(redis)
    former, wanted = undisturbed
    assert balance.holds
    assert (balance.live, balance.consumed) == (0, balance.opened)
    assert found == wanted
    assert weights_sha(data_dir, "job_p") == weights_sha(former, "job_p")
    assert metrics_of(data_dir, "job_p") == metrics_of(former, "job_p")
    assert summary_of(data_dir, "job_p")["ledger"] == summary_of(former, "job_p")["ledger"]
