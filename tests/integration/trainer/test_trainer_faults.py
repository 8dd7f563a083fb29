"""Faults that a trainer must survive: death within a batch, a successor, the user's wishes, a message delivered
twice."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from redis.asyncio import Redis
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainer_platform import (
    NO_CURSOR,
    children,
    enqueue,
    events,
    metrics_of,
    no_file_above,
    register,
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
from services.trainer.celery_worker.message_lease import UNACKED_INDEX
from tests.read_only import read_only

NO_BASELINES = {"evaluation": {"eval_baselines": False}}


async def run_undisturbed(redis: Redis, redis_url: str, job: str) -> None:
    async with surroundings(redis, redis_url, job):
        await submit(redis, redis_url, job, small_spec(**NO_BASELINES))
        assert await until_state(redis, job, "SUCCEEDED", "FAILED") == "SUCCEEDED"


@pytest.fixture(scope="module")
def undisturbed(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a job that nobody disturbed: what every disturbed one must come to."""

    async def run() -> None:
        async with connect(redis_server) as redis:
            await redis.flushall()  # an earlier file's job_b on this server may be cancelled, or half done
            await run_undisturbed(redis, redis_server, "job_b")

    data_dir = tmp_path_factory.mktemp("undisturbed")
    with trainer_process(redis_server, data_dir):
        asyncio.run(run())
    return data_dir


async def assert_same_end(redis: Redis, data_dir: Path, undisturbed: Path) -> None:
    """The disturbed job_b trained what the undisturbed one did, bit for bit, and left nothing behind."""
    assert weights_sha(data_dir, "job_b") == weights_sha(undisturbed, "job_b")
    assert metrics_of(data_dir, "job_b") == metrics_of(undisturbed, "job_b")
    balance = await Ledger(redis, "job_b").balance()
    assert (balance.live, balance.holds) == (0, True)
    assert balance.consumed == balance.opened
    summary = summary_of(data_dir, "job_b")
    assert summary["trained_tokens"] == summary["sampled_tokens"]
    board = EventAccumulator(str(data_dir / "jobs" / "job_b" / "tensorboard"))
    board.Reload()
    shown = [(event.step, event.value) for event in board.Scalars("success")]
    assert shown == [(row["batch"], pytest.approx(row["success"])) for row in metrics_of(data_dir, "job_b")]
    assert [event.step for event in board.Scalars("evaluation/held_out/success")] == [0, 4]


@pytest.mark.parametrize("held_at", [1, 3])
async def test_a_child_killed_with_assigned_batches_is_replayed_to_the_same_weights(
    redis: Redis, redis_url: str, tmp_path: Path, undisturbed: Path, held_at: int
):
    """held_at 1: nothing but batch 0's manifest is durable. 3: a checkpoint at 2 and the manifest of batch 2."""
    with trainer_process(redis_url, tmp_path) as trainer:
        async with surroundings(redis, redis_url, "job_b") as rollout:
            rollout.held_from = 3 * held_at
            await submit(redis, redis_url, "job_b", small_spec(**NO_BASELINES))
            await until_event(redis, "job_b", "metrics", batch=held_at - 1)
            assert await Ledger(redis, "job_b").manifests()
            (child,) = children(trainer)
            os.kill(child, signal.SIGKILL)
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_b", "SUCCEEDED", "FAILED") == "SUCCEEDED"
        replayed = [event for event in await events(redis, "job_b") if event.data.get("phase") == "replay"]
        assert [event.data["batch"] for event in replayed] == [held_at - 1]
    await assert_same_end(redis, tmp_path, undisturbed)


@pytest.mark.parametrize(
    ("longest_file", "sentence"), [(1.5, "checkpoint b000002 is skipped"), (0.0, "policy version 2 cannot be written")]
)
async def test_a_disk_that_takes_nothing_for_a_while_costs_time_and_no_job(
    redis: Redis, redis_url: str, tmp_path: Path, undisturbed: Path, longest_file: float, sentence: str
):
    """The kernel refuses files longer than so many policies; 1.5: a policy can be written, a checkpoint cannot."""
    with trainer_process(redis_url, tmp_path) as trainer:
        async with surroundings(redis, redis_url, "job_b") as rollout:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_b", small_spec(**NO_BASELINES))
            await until_event(redis, "job_b", "metrics", batch=0)
            policy = next((tmp_path / "jobs/job_b/policy").glob("v*/*.safetensors"))
            with no_file_above(int(longest_file * policy.stat().st_size), trainer):
                rollout.held_from = 9
                await until_warning(redis, "job_b", sentence)
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_b", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    await assert_same_end(redis, tmp_path, undisturbed)


async def test_a_folder_that_is_read_only_for_a_while_costs_time_and_no_job(
    redis: Redis, redis_url: str, tmp_path: Path, undisturbed: Path
):
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_b") as rollout:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_b", small_spec(**NO_BASELINES))
            await until_event(redis, "job_b", "metrics", batch=0)
            with read_only(tmp_path / "jobs"):
                rollout.held_from = 9
                await until_warning(redis, "job_b", "policy version 2 cannot be written")
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_b", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    await assert_same_end(redis, tmp_path, undisturbed)


async def test_a_job_whose_disk_takes_nothing_can_be_cancelled(redis: Redis, redis_url: str, tmp_path: Path):
    with trainer_process(redis_url, tmp_path) as trainer:
        async with surroundings(redis, redis_url, "job_b") as rollout:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_b", small_spec(**NO_BASELINES))
            await until_event(redis, "job_b", "metrics", batch=0)
            with no_file_above(0, trainer):
                rollout.held_from = NO_CURSOR
                await until_warning(redis, "job_b", "policy version 2 cannot be written")
                await redis.set(keys.control("job_b"), "cancel")
                assert await until_state(redis, "job_b", "CANCELLED", "FAILED") == "CANCELLED"
    await until_warning(redis, "job_b", "summary.json cannot be written")


async def until_warning(redis: Redis, job: str, sentence: str) -> None:
    while not any(
        sentence in str(event.data.get("message")) for event in await events(redis, job) if event.kind == "warning"
    ):
        await asyncio.sleep(0.05)


async def test_a_worker_killed_whole_is_succeeded_by_another_one(
    redis: Redis, redis_url: str, tmp_path: Path, undisturbed: Path
):
    async with surroundings(redis, redis_url, "job_b") as rollout:
        with trainer_process(redis_url, tmp_path, visibility_timeout_s=4) as first:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_b", small_spec(**NO_BASELINES))
            await until_event(redis, "job_b", "metrics", batch=0)
            first.kill()
            await asyncio.to_thread(first.wait)
        rollout.held_from = NO_CURSOR
        with trainer_process(redis_url, tmp_path, visibility_timeout_s=4):
            assert await until_state(redis, "job_b", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    await assert_same_end(redis, tmp_path, undisturbed)


async def test_a_segment_longer_than_the_visibility_timeout_is_not_delivered_twice(
    redis: Redis, redis_url: str, tmp_path: Path
):
    with trainer_process(redis_url, tmp_path, visibility_timeout_s=3):
        async with surroundings(redis, redis_url, "job_a") as rollout:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_a", small_spec(**NO_BASELINES))
            await until_event(redis, "job_a", "metrics", batch=0)
            await kept_for(redis, 9.0)  # three timeouts; the broker's client looks every second
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    assert int(await redis.get(keys.epoch("job_a"))) == 1  # nobody else ever claimed it


async def kept_for(redis: Redis, seconds: float) -> None:
    """Return once the one message in a trainer's hands has been kept so long, by the time noted beside it."""
    ((_, first),) = await redis.zrange(UNACKED_INDEX, 0, -1, withscores=True)
    while True:
        ((_, now),) = await redis.zrange(UNACKED_INDEX, 0, -1, withscores=True)
        if now - first >= seconds:
            return
        await asyncio.sleep(0.1)


async def test_a_trainer_whose_epoch_was_claimed_by_another_one_stops_without_a_word(
    redis: Redis, redis_url: str, tmp_path: Path
):
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a") as rollout:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_a", small_spec(**NO_BASELINES))
            await until_event(redis, "job_a", "metrics", batch=0)
            await Ledger(redis, "job_a").claim_epoch()
            rollout.held_from = NO_CURSOR
            while await redis.hlen("unacked"):
                await asyncio.sleep(0.05)
    assert not (tmp_path / "jobs/job_a/summary.json").exists()
    assert [event.data["state"] for event in await events(redis, "job_a") if event.kind == "state"] == [
        "RUNNING", "RUNNING"
    ]  # fmt: skip
    assert list(await Ledger(redis, "job_a").manifests()) == [0]


async def test_a_cancelled_job_ends_at_once_and_leaves_nothing_live(redis: Redis, redis_url: str, tmp_path: Path):
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a") as rollout:
            await submit(redis, redis_url, "job_a", small_spec(**NO_BASELINES, rollout={"max_staleness": 1}))
            rollout.held_from = 6
            await until_event(redis, "job_a", "metrics", batch=0)
            await redis.set(keys.control("job_a"), "cancel")
            assert await until_state(redis, "job_a", "CANCELLED", "SUCCEEDED", "FAILED") == "CANCELLED"
    balance = await Ledger(redis, "job_a").balance()
    assert (balance.live, balance.holds) == (0, True)
    assert balance.dropped["cancelled"] > 0
    assert summary_of(tmp_path, "job_a")["state"] == "CANCELLED"
    assert not await redis.sismember(keys.ACTIVE_JOBS, "job_a")


async def test_a_paused_job_goes_on_where_it_was_and_ends_the_same(
    redis: Redis, redis_url: str, tmp_path: Path, undisturbed: Path
):
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_b") as rollout:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_b", small_spec(**NO_BASELINES))
            await until_event(redis, "job_b", "metrics", batch=0)
            await redis.set(keys.control("job_b"), "pause")
            assert await until_state(redis, "job_b", "PAUSED", "SUCCEEDED", "FAILED") == "PAUSED"
            assert not await redis.sismember(keys.ACTIVE_JOBS, "job_b")
            rollout.held_from = NO_CURSOR
            await redis.set(keys.control("job_b"), "run")
            await enqueue(redis_url, "job_b")
            assert await until_state(redis, "job_b", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    await assert_same_end(redis, tmp_path, undisturbed)


async def test_a_stopped_worker_leaves_its_job_to_the_next_one(
    redis: Redis, redis_url: str, tmp_path: Path, undisturbed: Path
):
    async with surroundings(redis, redis_url, "job_b") as rollout:
        with trainer_process(redis_url, tmp_path) as first:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_b", small_spec(**NO_BASELINES))
            await until_event(redis, "job_b", "metrics", batch=0)
            first.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(first.wait) == 0
        async with asyncio.timeout(60):  # deleted at once, but on a machine that is too busy for that it expires
            while [key async for key in redis.scan_iter("services:alive:trainer:*")]:
                await asyncio.sleep(0.1)
        rollout.held_from = NO_CURSOR
        with trainer_process(redis_url, tmp_path):
            assert await until_state(redis, "job_b", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    await assert_same_end(redis, tmp_path, undisturbed)


async def test_messages_of_a_job_that_has_ended_or_gone_on_do_nothing(redis: Redis, redis_url: str, tmp_path: Path):
    with trainer_process(redis_url, tmp_path):
        await run_undisturbed(redis, redis_url, "job_a")
        epoch, before = await redis.get(keys.epoch("job_a")), weights_sha(tmp_path, "job_a")
        await enqueue(redis_url, "job_a")
        await until_event(redis, "job_a", "summary", count=2)
        assert await redis.get(keys.epoch("job_a")) == epoch
        assert weights_sha(tmp_path, "job_a") == before
        (tmp_path / "jobs/job_a/summary.json").unlink()  # as if it had not ended: the message is behind the checkpoint
        await enqueue(redis_url, "job_a", 2)
        while await redis.llen("trainer") or await redis.hlen("unacked"):
            await asyncio.sleep(0.05)
        assert await redis.get(keys.epoch("job_a")) == epoch


async def test_a_half_written_checkpoint_is_skipped_with_a_warning(
    redis: Redis, redis_url: str, tmp_path: Path, undisturbed: Path
):
    with trainer_process(redis_url, tmp_path) as trainer:
        async with surroundings(redis, redis_url, "job_b") as rollout:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_b", small_spec(**NO_BASELINES))
            await until_event(redis, "job_b", "metrics", batch=0)
            (child,) = children(trainer)
            half = tmp_path / "jobs/job_b/checkpoints/b000003"
            half.mkdir(parents=True)
            (half / "hashes.json").write_text('{"trainer/learner.json": "00"}')
            os.kill(child, signal.SIGKILL)
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_b", "SUCCEEDED", "FAILED") == "SUCCEEDED"
            warning = await until_event(redis, "job_b", "warning")
            assert "b000003" in warning.data["message"]
    await assert_same_end(redis, tmp_path, undisturbed)


async def test_a_newest_checkpoint_that_rotted_is_replaced_by_the_one_before_it(
    redis: Redis, redis_url: str, tmp_path: Path, undisturbed: Path
):
    """Its groups' payloads are still there: both checkpoints lead to the same weights."""
    with trainer_process(redis_url, tmp_path) as trainer:
        async with surroundings(redis, redis_url, "job_b") as rollout:
            rollout.held_from = 9
            await submit(redis, redis_url, "job_b", small_spec(**NO_BASELINES, checkpoint={"checkpoint_every": 1}))
            await until_event(redis, "job_b", "checkpoint", batch=3)
            (child,) = children(trainer)
            os.kill(child, signal.SIGKILL)
            weights = tmp_path / "jobs/job_b/checkpoints/b000003/model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-1])
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_b", "SUCCEEDED", "FAILED") == "SUCCEEDED"
            warning = await until_event(redis, "job_b", "warning")
            assert "b000003: model.safetensors" in warning.data["message"]
        replayed = [event for event in await events(redis, "job_b") if event.data.get("phase") == "replay"]
        assert [event.data["batch"] for event in replayed] == [2]
    assert (tmp_path / "jobs/job_b/checkpoints/broken-b000003").is_dir()
    await assert_same_end(redis, tmp_path, undisturbed)


async def test_a_job_whose_model_is_missing_fails_with_a_sentence(redis: Redis, redis_url: str, tmp_path: Path):
    spec = small_spec().model_copy(update={"model": small_spec().model.model_copy(update={"model": "/no/such/model"})})
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"scratch": None})})
    await register(redis, "job_a")
    with trainer_process(redis_url, tmp_path):
        await submit(redis, redis_url, "job_a", spec)
        failed = await until_event(redis, "job_a", "state", state="FAILED")
    assert failed.data["error"] == "model: no such folder: /no/such/model"
    assert summary_of(tmp_path, "job_a")["state"] == "FAILED"


async def test_an_engine_that_differs_is_told_of_once_and_one_with_other_weights_ends_the_job(
    redis: Redis, redis_url: str, tmp_path: Path
):
    """An error of e nats is a mean k3 KL of exp(e) - 1 - e: 0.0013 is between the two bounds, 4.4 above both."""
    with trainer_process(redis_url, tmp_path):
        for job, error, end in (("job_a", 0.05, "SUCCEEDED"), ("job_b", 2.0, "FAILED")):
            async with surroundings(redis, redis_url, job, error=error):
                await submit(redis, redis_url, job, small_spec(training={"total_batches": 1}))
                assert await until_state(redis, job, "SUCCEEDED", "FAILED") == end
        told = [event for event in await events(redis, "job_a") if event.kind == "warning"]
        assert len([one for one in told if "engine and trainer differ" in one.data["message"]]) == 1
        failed = await until_event(redis, "job_b", "state", state="FAILED")
    assert failed.data["error"].startswith("evaluation before: engine and trainer differ by")
    assert not (tmp_path / "jobs/job_b/metrics.jsonl").exists()
