"""Batches scored as a whole: the successor of a killed trainer scores them to the same bytes and trains the same."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

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
from services.contracts.job import JobSpec
from services.contracts.jobfolder import JobFolder
from services.ledger import Ledger
from services.trainer.batch.second_stage import scored_together
from services.trainer.groups.payloads import Payload, payload_of
from services.trainer.learner.second_stage import rescored


def spec_of(batches: int = 2, **algorithm: Any) -> JobSpec:
    return small_spec(
        algorithm=algorithm,
        training={"total_batches": batches},
        evaluation={"eval_baselines": False, "eval_episodes": 2},
        checkpoint={"checkpoint_every": batches},
    )


async def once_whole_and_once_killed(redis: Redis, redis_url: str, data_dir: Path, spec: JobSpec) -> dict[str, Any]:
    """Run one spec as `job_a`, and as `job_b` whose child is killed when it has trained all batches but the last.

    Returns:
        The manifest of the batch before the last as the killed child assigned it.
    """
    last = spec.training.total_batches - 1
    with trainer_process(redis_url, data_dir) as trainer:
        async with surroundings(redis, redis_url, "job_a"):
            await submit(redis, redis_url, "job_a", spec)
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
        async with surroundings(redis, redis_url, "job_b") as rollout:
            rollout.held_from = last * spec.rollout.groups_per_batch
            await submit(redis, redis_url, "job_b", spec)
            await until_event(redis, "job_b", "metrics", batch=last - 1)
            manifest: dict[str, Any] = json.loads((await Ledger(redis, "job_b").manifests())[last - 1])
            (child,) = children(trainer)
            os.kill(child, signal.SIGKILL)
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job_b", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    assert weights_sha(data_dir, "job_b") == weights_sha(data_dir, "job_a")
    assert metrics_of(data_dir, "job_b") == metrics_of(data_dir, "job_a")
    return manifest


def trained_groups(data_dir: Path, batch: int) -> list[Payload]:
    """Events of `job_b` about what a batch was trained on."""
    archive = JobFolder.of(data_dir, "job_b").rollouts(batch)
    return [payload_of("trained", *group) for group in encoded_groups(archive)]


async def test_a_child_killed_with_an_assigned_batch_scores_it_again_to_the_bytes_of_its_manifest(
    redis: Redis, redis_url: str, tmp_path: Path
):
    spec = spec_of(advantage_estimator="reinforce_plus_plus", beta=0.0)
    manifest = await once_whole_and_once_killed(redis, redis_url, tmp_path, spec)
    trained = trained_groups(tmp_path, 0)
    assert [group.scores_sha for group in trained] == [group["scores_sha"] for group in manifest["groups"]]
    assert any(any(group.scored.advantage) for group in trained)
    assert scored_together(trained, spec, rescored) == trained  # they have the batch's scale already


async def test_a_child_killed_with_the_kl_in_its_rewards_trains_the_same_again(
    redis: Redis, redis_url: str, tmp_path: Path
):
    spec = spec_of(3, advantage_estimator="rloo", beta=0.5)
    manifest = await once_whole_and_once_killed(redis, redis_url, tmp_path, spec)
    trained = trained_groups(tmp_path, 1)
    assert [group.scores_sha for group in trained] == [group["scores_sha"] for group in manifest["groups"]]
    assert [group.scores for group in scored_together(trained, spec, rescored, manifest["kl"])] == [
        group.scores for group in trained
    ]
    taken = [value for group in manifest["kl"] for value in group]
    assert max(map(abs, taken)) > 0
    records = metrics_of(tmp_path, "job_a")
    assert records[0]["kl"] == 0.0  # the policy is the reference still
    assert records[1]["kl"] == sum(taken) / records[1]["tokens"]


async def test_a_job_that_compares_whole_groups_trains_the_same_after_a_kill(
    redis: Redis, redis_url: str, tmp_path: Path
):
    await once_whole_and_once_killed(redis, redis_url, tmp_path, spec_of(loss_type="real", num_iterations=2))
    first = metrics_of(tmp_path, "job_a")[0]
    assert first["policy_loss"] > 0.1
    assert first["grad_norm"] > 0
    assert first["optimizer_steps"] == 4
