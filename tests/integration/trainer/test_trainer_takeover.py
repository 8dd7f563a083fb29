"""Jobs that begin with what another one made, brought into their folder by the API: retries, forks, evaluations."""

from __future__ import annotations

import asyncio
from pathlib import Path

from redis.asyncio import Redis
from trainer_platform import (
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

from services.api.jobs.derived_specs import evaluation_spec, fork_spec
from services.api.jobs.takeover import policy_of, training_of
from services.contracts import keys
from services.contracts.archive import read_archive
from services.contracts.origin import ORIGIN_FILE, TakenOver
from services.contracts.rest.evaluations import EvaluationRequest
from services.contracts.rest.jobs import ForkRequest
from services.ledger import Ledger
from services.trainer.storage.checkpoint import verified_progress

SPEC = {"evaluation": {"eval_baselines": False}}


async def test_a_retry_trains_on_from_the_checkpoint_and_ends_as_the_job_would_have(
    redis: Redis, redis_url: str, tmp_path: Path
):
    spec, folder = small_spec(**SPEC), tmp_path / "jobs"
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "whole"):
            await submit(redis, redis_url, "whole", spec)
            assert await until_state(redis, "whole", "SUCCEEDED", "FAILED") == "SUCCEEDED"
        async with surroundings(redis, redis_url, "cut") as rollout:
            rollout.held_from = 9  # batch 3 never comes
            await submit(redis, redis_url, "cut", spec)
            await until_event(redis, "cut", "metrics", batch=2)
            await redis.set(keys.control("cut"), "cancel")
            await until_state(redis, "cut", "CANCELLED")
        training = await asyncio.to_thread(training_of, folder / "cut", "cut")
        assert (training.checkpoint, training.version) == ("b000002", 2)
        training.bring(folder / "retry")
        async with surroundings(redis, redis_url, "retry") as rollout:
            await submit(redis, redis_url, "retry", spec)
            assert await until_state(redis, "retry", "SUCCEEDED", "FAILED") == "SUCCEEDED"
            assert {group.cursor for group in rollout.seen} == set(range(6, 12))  # batches 2 and 3
    assert weights_sha(tmp_path, "retry") == weights_sha(tmp_path, "whole")
    assert metrics_of(tmp_path, "retry") == metrics_of(tmp_path, "whole")
    assert len(metrics_of(tmp_path, "cut")) == 3, "the retried job's own records are left alone"
    summaries = [summary_of(tmp_path, job) for job in ("retry", "whole")]
    assert summaries[0]["evaluations"] == summaries[1]["evaluations"]
    assert summaries[0]["trained_tokens"] == summaries[1]["trained_tokens"]
    balance = await Ledger(redis, "retry").balance()
    assert (balance.live, balance.holds) == (0, True)
    taken = TakenOver.model_validate_json((folder / "retry" / ORIGIN_FILE).read_bytes())
    later = verified_progress(folder / "retry" / "checkpoints" / "b000004")
    assert later.started_unix_s >= taken.taken_unix_s, "the new job's clock began before it"


async def test_a_fork_and_an_evaluation_begin_with_the_pinned_policy(redis: Redis, redis_url: str, tmp_path: Path):
    spec, folder = small_spec(**SPEC, training={"total_batches": 2}), tmp_path / "jobs"
    document = spec.model_dump(mode="json")
    wanted = EvaluationRequest(job_id="first", eval_episodes=3, baselines=True)
    forked = fork_spec(document, "first", "final", ForkRequest(overrides={"training.total_batches": 1}))
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "first"):
            await submit(redis, redis_url, "first", spec)
            assert await until_state(redis, "first", "SUCCEEDED", "FAILED") == "SUCCEEDED"
        policy = policy_of(folder / "first", "first")
        assert (policy.checkpoint, policy.version) == ("final", 2)
        for job, its_spec in {
            "fork": forked,
            "measured": evaluation_spec(document, "first", "final", wanted),
        }.items():
            policy.bring(folder / job)
            async with surroundings(redis, redis_url, job):
                await submit(redis, redis_url, job, its_spec)
                assert await until_state(redis, job, "SUCCEEDED", "FAILED") == "SUCCEEDED"
    final = (folder / "first" / "final" / "model.safetensors").read_bytes()
    for job in ("fork", "measured"):
        assert (folder / job / "base" / "model.safetensors").read_bytes() == final
    assert weights_sha(tmp_path, "fork") != weights_sha(tmp_path, "first")
    measured = summary_of(tmp_path, "measured")
    assert (measured["batches"], measured["checkpoint"]) == (0, None)
    assert [(one["label"], one["episodes"]) for one in measured["evaluations"]] == [
        ("before", 3), ("task_hidden", 3), ("task_shuffled", 3), ("random_actor", 3)
    ]  # fmt: skip
    archived = read_archive(folder / "measured" / "rollouts" / "eval-before-00000.msgpack.zlib")
    assert [len(episodes) for _, episodes in archived] == [1, 1, 1]
