"""Batches scored as a whole: the successor of a killed trainer scores them to the same bytes and trains the same."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from redis.asyncio import Redis
from trainer_platform import (
    NO_CURSOR,
    children,
    metrics_of,
    small_spec,
    submit,
    surroundings,
    trainer_process,
    until_event,
    until_state,
    weights_sha,
)

from services.contracts.archive import encoded_groups
from services.ledger import Ledger
from services.trainer.batch.second_stage import scored_together
from services.trainer.groups.payloads import payload_of

SPEC = small_spec(
    algorithm={"advantage_estimator": "reinforce_plus_plus"},
    training={"total_batches": 2},
    evaluation={"eval_baselines": False, "eval_episodes": 2},
)


async def test_a_child_killed_with_an_assigned_batch_scores_it_again_to_the_bytes_of_its_manifest(
    redis: Redis, redis_url: str, tmp_path: Path
):
    with trainer_process(redis_url, tmp_path) as trainer:
        async with surroundings(redis, redis_url, "job_a"):
            await submit(redis, redis_url, "job_a", SPEC)
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
        async with surroundings(redis, redis_url, "job_b") as rollout:
            rollout.held_from = 3
            await submit(redis, redis_url, "job_b", SPEC)
            await until_event(redis, "job_b", "metrics", batch=0)
            manifest = (await Ledger(redis, "job_b").manifests())[0]
            (child,) = children(trainer)
            os.kill(child, signal.SIGKILL)
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_b", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    assert weights_sha(tmp_path, "job_b") == weights_sha(tmp_path, "job_a")
    assert metrics_of(tmp_path, "job_b") == metrics_of(tmp_path, "job_a")
    archive = tmp_path / "jobs" / "job_b" / "rollouts" / "batch-00000.msgpack.zlib"
    trained = [payload_of("trained", *group) for group in encoded_groups(archive)]
    assert [group.scores_sha for group in trained] == [group["scores_sha"] for group in json.loads(manifest)["groups"]]
    assert any(any(group.scored.advantage) for group in trained)
    assert scored_together(trained, SPEC) == trained  # they have the batch's scale already
