"""Whole jobs on a real trainer worker, a real ledger and the real advantage service; only the episodes are scripted."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from redis.asyncio import Redis
from trainer_platform import (
    NO_CURSOR,
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
from services.contracts.archive import read_archive
from services.contracts.messages import encode
from services.ledger import Ledger


async def test_a_job_runs_to_its_end_and_a_second_one_with_its_seed_is_the_same(
    redis: Redis, redis_url: str, tmp_path: Path
):
    seen = {}
    with trainer_process(redis_url, tmp_path):
        for job in ("job_a", "job_b"):
            async with surroundings(redis, redis_url, job) as rollout:
                await submit(redis, redis_url, job, small_spec())
                assert await until_state(redis, job, "SUCCEEDED", "FAILED") == "SUCCEEDED"
                seen[job] = [(group.group_id, group.task_seed) for group in rollout.seen]
            balance = await Ledger(redis, job).balance()
            assert balance.holds
            assert balance.live == 0
            assert balance.opened == balance.consumed == 12 + 6 * 5
    assert seen["job_a"] == seen["job_b"]
    assert len(seen["job_a"]) == 12
    assert metrics_of(tmp_path, "job_a") == metrics_of(tmp_path, "job_b")
    assert weights_sha(tmp_path, "job_a") == weights_sha(tmp_path, "job_b")
    summary = summary_of(tmp_path, "job_a")
    assert summary["state"] == "SUCCEEDED"
    assert summary["trained_tokens"] == summary["sampled_tokens"] > 0
    assert (summary["batches"], summary["checkpoint"], summary["stale_max"]) == (4, "final", 0)
    assert {one["label"] for one in summary["evaluations"]} == {
        "before", "after", "task_hidden", "task_shuffled", "random_actor"
    }  # fmt: skip
    assert (
        summary["env_steps"]
        == summary["trained_steps"]
        == sum(one["env_steps"] for one in metrics_of(tmp_path, "job_a"))
    )
    assert 0 < summary["waits_s"]["trainer"] <= summary["phases_s"]["training"]
    assert summary["cpu_s"].keys() == summary["gpu_s"].keys() == summary["phases_s"].keys()
    assert summary["cpu_s"]["training"] > 0
    assert {len(one["outcomes"]) for one in summary["evaluations"]} == {6}
    told = [event.kind for event in await events(redis, "job_a")]
    assert told.count("metrics") == 4
    assert told.index("summary") < len(told) - 1 - told[::-1].index("state")
    ((scored, episodes), *_) = read_archive(tmp_path / "jobs/job_a/rollouts/batch-00000.msgpack.zlib")
    assert [episode.k for episode in episodes] == [0, 1, 2, 3]
    assert scored.group_id == seen["job_a"][0][0]
    assert not await redis.sismember(keys.ACTIVE_JOBS, "job_a")
    assert json.loads((tmp_path / "jobs/job_a/final/config.json").read_text())["model_type"] == "qwen2"


async def test_a_warm_start_that_taught_the_format_lets_training_begin(redis: Redis, redis_url: str, tmp_path: Path):
    model = {"warmstart": {"warmstart_rows": 60, "warmstart_steps": 5, "warmstart_batch_size": 8}}
    spec = small_spec(model=model, training={"total_batches": 1}, evaluation={"eval_baselines": False})
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a"):
            await submit(redis, redis_url, "job_a", spec)
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    balance = await Ledger(redis, "job_a").balance()
    assert (balance.live, balance.holds) == (0, True)
    assert balance.consumed == balance.opened > 3 + 12
    assert summary_of(tmp_path, "job_a")["phases_s"]["warmstart"] > 0


async def test_a_warm_start_that_did_not_teach_the_format_fails_the_job(redis: Redis, redis_url: str, tmp_path: Path):
    model = {"warmstart": {"warmstart_rows": 30, "warmstart_steps": 2, "warmstart_batch_size": 8}}
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a", invalid_share=0.5):
            await submit(redis, redis_url, "job_a", small_spec(model=model))
            failed = await until_event(redis, "job_a", "state", state="FAILED")
    assert "warmstart_max_invalid" in failed.data["error"]
    assert summary_of(tmp_path, "job_a")["state"] == "FAILED"
    assert (await Ledger(redis, "job_a").balance()).live == 0


async def test_what_is_dropped_is_replaced_by_the_next_cursors(redis: Redis, redis_url: str, tmp_path: Path):
    spec = small_spec(evaluation={"eval_baselines": False}, rollout={"max_staleness": 1, "max_attempts": 2})
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a", faults={1: 2, 4: 1}):
            await submit(redis, redis_url, "job_a", spec)
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    balance = await Ledger(redis, "job_a").balance()
    assert (balance.dropped["infra"], balance.retried, balance.live) == (1, 2, 0)
    trained = [
        scored.cursor
        for batch in range(4)
        for scored, _ in read_archive(tmp_path / f"jobs/job_a/rollouts/batch-{batch:05d}.msgpack.zlib")
    ]
    assert trained == [0, *range(2, 13)]
    warning = await until_event(redis, "job_a", "warning")
    assert "the environment was lost" in warning.data["message"]


async def test_a_batch_may_take_longer_than_its_limit_while_groups_keep_coming(
    redis: Redis, redis_url: str, tmp_path: Path
):
    """Eight groups, one every 2 s, with a limit of 12 s."""
    spec = small_spec(
        evaluation={"eval_baselines": False},
        rollout={"groups_per_batch": 8},
        training={"total_batches": 1, "minibatches": 1},
        limits={"batch_timeout_s": 12.0},
    )
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a") as rollout:
            rollout.held_from = 0
            await submit(redis, redis_url, "job_a", spec)
            while not rollout.seen:
                await asyncio.sleep(0.05)
            for cursor in range(8):
                await asyncio.sleep(2.0)
                rollout.held_from = cursor + 1
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"


async def test_a_group_that_nobody_can_play_is_dropped_and_replaced(redis: Redis, redis_url: str, tmp_path: Path):
    """It was set aside as a dead letter of `{job}:groups`, after it had ended every worker that took it."""
    spec = small_spec(evaluation={"eval_baselines": False}, training={"total_batches": 1})
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a") as rollout:
            rollout.held_from = 2
            await submit(redis, redis_url, "job_a", spec)
            while not any(group.cursor == 2 for group in rollout.seen):
                await asyncio.sleep(0.05)
            poison = next(group for group in rollout.seen if group.cursor == 2)
            letter = {b"p": encode(poison), b"cause": b"delivered 9 times, never acknowledged", b"id": b"0-1"}
            await redis.xadd(f"{keys.groups_stream('job_a')}:dead", letter)
            warning = await until_event(redis, "job_a", "warning")
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    assert "never acknowledged" in warning.data["message"]
    balance = await Ledger(redis, "job_a").balance()
    assert (balance.dropped["infra"], balance.live, balance.holds) == (1, 0, True)
    trained = read_archive(tmp_path / "jobs/job_a/rollouts/batch-00000.msgpack.zlib")
    assert [scored.cursor for scored, _ in trained] == [0, 1, 3]


async def test_groups_that_teach_nothing_are_dropped_and_replaced_when_the_job_says_so(
    redis: Redis, redis_url: str, tmp_path: Path
):
    """With two episodes a group every second one has equal returns."""
    spec = small_spec(
        evaluation={"eval_baselines": False},
        rollout={"num_generations": 2},
        algorithm={"dynamic_sample": True, "max_resample_times": 50},
    )
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a"):
            await submit(redis, redis_url, "job_a", spec)
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    balance = await Ledger(redis, "job_a").balance()
    assert balance.dropped["filtered"] > 0
    assert (balance.live, balance.holds) == (0, True)
    trained = [
        (scored.cursor, {episode.won for episode in episodes})
        for batch in range(4)
        for scored, episodes in read_archive(tmp_path / f"jobs/job_a/rollouts/batch-{batch:05d}.msgpack.zlib")
    ]
    assert len(trained) == 12
    assert all(outcomes == {True, False} for _, outcomes in trained)
    assert [cursor for cursor, _ in trained] == sorted(cursor for cursor, _ in trained)


async def test_groups_sampled_by_too_old_a_version_are_never_trained(redis: Redis, redis_url: str, tmp_path: Path):
    """Every group says it was sampled one version ago: from batch 1 on none may be trained when max_staleness is 0."""
    spec = small_spec(evaluation={"eval_baselines": False}, limits={"batch_timeout_s": 8.0})
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a", age=1) as rollout:
            await submit(redis, redis_url, "job_a", spec)
            await until_event(redis, "job_a", "metrics", batch=0)
            await until_event(redis, "job_a", "warning", count=2)
            rollout.held_from = 0
            failed = await until_event(redis, "job_a", "state", state="FAILED")
    # how many had come when the rollout stopped is a matter of timing; none of them may be trained
    assert re.search(r"batch 1: [1-3] of 3 groups are missing", failed.data["error"])
    balance = await Ledger(redis, "job_a").balance()
    assert balance.dropped["stale"] >= 6
    assert (balance.live, balance.holds) == (0, True)
    assert summary_of(tmp_path, "job_a")["stale_max"] == 0


async def test_two_jobs_take_turns_on_one_worker_and_both_stay_warm(redis: Redis, redis_url: str, tmp_path: Path):
    with trainer_process(redis_url, tmp_path):
        async with (
            surroundings(redis, redis_url, "job_a"),
            surroundings(redis, redis_url, "job_b"),
        ):
            await submit(redis, redis_url, "job_a", small_spec())
            await submit(redis, redis_url, "job_b", small_spec())
            for _ in range(2):
                await enqueue(redis_url, "job_b")  # dispatched again for nothing
            for job in ("job_a", "job_b"):
                assert await until_state(redis, job, "SUCCEEDED", "FAILED") == "SUCCEEDED"
    assert metrics_of(tmp_path, "job_a") == metrics_of(tmp_path, "job_b")
    assert [int(await redis.get(keys.epoch(job))) for job in ("job_a", "job_b")] == [1, 1]  # loaded once each


async def test_a_job_is_brought_to_its_end_before_a_waiting_one_begins(redis: Redis, redis_url: str, tmp_path: Path):
    """Else one inference replica would be asked to serve two jobs, and neither could go on."""
    async with (
        surroundings(redis, redis_url, "job_a"),
        surroundings(redis, redis_url, "job_b"),
    ):
        for job in ("job_a", "job_b"):
            await submit(redis, redis_url, job, small_spec(), priority=9)
        with trainer_process(redis_url, tmp_path):
            for job in ("job_a", "job_b"):
                assert await until_state(redis, job, "SUCCEEDED", "FAILED") == "SUCCEEDED"
    ended = (await until_event(redis, "job_a", "state", state="SUCCEEDED")).at_unix_s
    begun = (await until_event(redis, "job_b", "state", state="RUNNING")).at_unix_s
    assert ended <= begun


async def test_a_tracker_that_cannot_be_reached_is_warned_of_and_the_job_goes_on(
    redis: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # or it is not installed: as good as out of reach
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    spec = small_spec(tracking={"trackers": ["mlflow"]}, evaluation={"eval_baselines": False})
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a"):
            await submit(redis, redis_url, "job_a", spec)
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    warnings = [event.data["message"] for event in await events(redis, "job_a") if event.kind == "warning"]
    assert len([words for words in warnings if words.startswith("tracker mlflow is off until the job is resumed")]) == 1
