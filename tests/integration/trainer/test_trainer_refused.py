"""Jobs that can't go on, whoever of the others says so: the sentence is in the job's error at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from trainer_platform import (
    ScriptedRollout,
    events,
    players_present,
    register,
    small_spec,
    submit,
    surroundings,
    trainer_process,
    until_event,
)

from services.contracts import keys
from services.contracts.messages import OpenedGroup
from services.contracts.policy import PolicyRefusal
from services.ledger import Ledger
from services.ledger.playability import refuse_job
from services.ledger.warnings import Warnings

UNREACHED_S = 3_000.0
"""A limit that no test waits for: the job must end without it."""
PATIENT = {"limits": {"batch_timeout_s": UNREACHED_S}}

Cause = Callable[[OpenedGroup], str]


@asynccontextmanager
async def failing(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, cause_of: Cause
) -> AsyncIterator[ScriptedRollout]:
    """Surroundings whose attempts fail, where `cause_of` the group is not empty."""
    play = ScriptedRollout._play

    async def fail(rollout: ScriptedRollout, group: OpenedGroup) -> None:
        if not (cause := cause_of(group)):
            await play(rollout, group)
            return
        ledger = Ledger(redis, group.job_id)
        await ledger.fail(group.group_id, (await ledger.start(group.group_id, "failing")).number, cause)

    monkeypatch.setattr(ScriptedRollout, "_play", fail)
    async with surroundings(redis, redis_url, "job_a") as rollout:
        yield rollout


async def refused(redis: Redis, *, final: bool, reason: str = "tensor x: want [2], got [3]") -> None:
    await register(redis, "job_a")
    await players_present(redis)
    refusal = PolicyRefusal(replica="r", version=0, reason=reason, final=final)
    await redis.hset(keys.policy_refusals("job_a"), "r", refusal.model_dump_json())


async def test_a_version_refused_for_good_fails_the_job_at_once(redis: Redis, redis_url: str, tmp_path: Path):
    await refused(redis, final=True)
    with trainer_process(redis_url, tmp_path, ack_timeout_s=UNREACHED_S):
        await submit(redis, redis_url, "job_a", small_spec())
        failed = await until_event(redis, "job_a", "state", state="FAILED")
    assert failed.data["error"] == "policy version 0 can't be served: tensor x: want [2], got [3]"


async def test_a_replica_that_took_the_job_as_well_may_yet_serve_what_another_one_refuses(
    redis: Redis, redis_url: str, tmp_path: Path
):
    await refused(redis, final=True)
    await register(redis, "job_a", "r2")
    with trainer_process(redis_url, tmp_path, ack_timeout_s=3):
        await submit(redis, redis_url, "job_a", small_spec())
        failed = await until_event(redis, "job_a", "state", state="FAILED")
    assert failed.data["error"] == (
        "no inference replica served policy version 0 within 3 s; r: tensor x: want [2], got [3]"
    )


async def test_an_unlucky_replica_is_waited_for_and_its_cause_is_in_the_end_s_sentence(
    redis: Redis, redis_url: str, tmp_path: Path
):
    await refused(redis, final=False, reason="vLLM ended with status 1: ValueError: no memory")
    with trainer_process(redis_url, tmp_path, ack_timeout_s=1):
        await submit(redis, redis_url, "job_a", small_spec())
        failed = await until_event(redis, "job_a", "state", state="FAILED")
    assert failed.data["error"] == (
        "no inference replica served policy version 0 within 1 s; r: vLLM ended with status 1: ValueError: no memory"
    )


async def test_an_engine_that_starts_may_take_longer_than_the_trainer_waits_for_others(
    redis: Redis, redis_url: str, tmp_path: Path
):
    await register(redis, "job_a", state="starting")
    await players_present(redis)
    with trainer_process(redis_url, tmp_path, ack_timeout_s=1):
        await submit(redis, redis_url, "job_a", small_spec())
        while not await redis.exists(keys.policy("job_a")):
            await asyncio.sleep(0.05)
        await asyncio.sleep(3)
        assert not [event for event in await events(redis, "job_a") if event.data.get("state") == "FAILED"]
        await register(redis, "job_a", state="serving")
        failed = await until_event(redis, "job_a", "state", state="FAILED")
    assert failed.data["error"] == "no inference replica served policy version 0 within 1 s"


async def test_a_job_that_every_live_worker_refuses_fails_at_once(redis: Redis, redis_url: str, tmp_path: Path):
    await register(redis, "job_a")
    await redis.set(keys.service_heartbeat("rollout", "w1"), "{}")
    await refuse_job(redis, "job_a", "w1", "want eos_token_id in config.json, there is none")
    with trainer_process(redis_url, tmp_path, ack_timeout_s=UNREACHED_S):
        await submit(redis, redis_url, "job_a", small_spec(**PATIENT))
        failed = await until_event(redis, "job_a", "state", state="FAILED")
    assert failed.data["error"] == "the job cannot be played: want eos_token_id in config.json, there is none"


async def test_an_evaluation_of_which_nothing_can_be_played_says_why(
    redis: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(group: OpenedGroup) -> str:
        return f"the template of group {group.group_id} is broken"

    with trainer_process(redis_url, tmp_path):
        async with failing(redis, redis_url, monkeypatch, broken):
            await submit(redis, redis_url, "job_a", small_spec(**PATIENT))
            failed = await until_event(redis, "job_a", "state", state="FAILED")
    error = failed.data["error"]
    assert error.startswith("evaluation before: none of 6 episodes could be played: the template of group ")
    counts = [event.data.get("count", 1) for event in await events(redis, "job_a") if "attempt" in str(event.data)]
    assert counts == [1, 2, 4, 8, 16]  # of 18 attempts


async def test_a_large_panel_is_given_up_when_its_first_groups_all_fail_for_one_cause(
    redis: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = set(range(8))

    def broken(group: OpenedGroup) -> str:
        return "System role not supported" if group.cursor in first else ""

    with trainer_process(redis_url, tmp_path):
        async with failing(redis, redis_url, monkeypatch, broken) as rollout:
            rollout.held_from = 8
            rollout.holds = {"eval"}
            await submit(redis, redis_url, "job_a", small_spec(**PATIENT, evaluation={"eval_episodes": 20}))
            failed = await until_event(redis, "job_a", "state", state="FAILED")
    assert failed.data["error"] == "none of the first 8 groups (eval) could be played: System role not supported"


async def test_training_groups_that_all_fail_for_one_cause_end_the_job_though_evaluations_were_played(
    redis: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(group: OpenedGroup) -> str:
        return "Server at capacity: 1/1 sessions active" if group.purpose == "train" else ""

    with trainer_process(redis_url, tmp_path):
        async with failing(redis, redis_url, monkeypatch, broken):
            await submit(redis, redis_url, "job_a", small_spec(**PATIENT))
            failed = await until_event(redis, "job_a", "state", state="FAILED")
    cause = "Server at capacity: 1/1 sessions active"
    assert failed.data["error"] == f"none of the first 8 groups (train) could be played: {cause}"


async def test_a_few_broken_tasks_among_the_first_do_not_end_a_job(
    redis: Redis, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(group: OpenedGroup) -> str:
        return "this task is broken" if group.purpose == "train" and group.cursor < 7 else ""

    with trainer_process(redis_url, tmp_path):
        async with failing(redis, redis_url, monkeypatch, broken):
            await submit(redis, redis_url, "job_a", small_spec(training={"total_batches": 1}))
            ended = await until_event(redis, "job_a", "summary")
    assert ended.data["state"] == "SUCCEEDED"
    dropped = [event.data for event in await events(redis, "job_a") if "is replaced" in str(event.data)]
    assert [data.get("count", 1) for data in dropped] == [1, 2, 4]  # of 7 groups, one cause


async def test_groups_that_do_not_come_name_the_last_trouble_since_they_were_waited_for(
    redis: Redis, redis_url: str, tmp_path: Path
):
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job_a") as rollout:
            rollout.held_from = 0
            await submit(redis, redis_url, "job_a", small_spec(limits={"batch_timeout_s": 4.0}))
            await until_event(redis, "job_a", "phase", phase="training")
            began = time.monotonic()
            while not rollout.seen and time.monotonic() - began < 60:
                await asyncio.sleep(0.05)
            await Warnings(redis, "rollout").count(
                "job_a", "a request to the environment is retried: Server at capacity"
            )
            failed = await until_event(redis, "job_a", "state", state="FAILED")
    begins = "batch 0: 3 of 3 groups are missing, and none arrived within batch_timeout_s = 4 s"
    assert failed.data["error"].startswith(begins)
    assert failed.data["error"].endswith(
        "; the last trouble: a request to the environment is retried: Server at capacity"
    )
