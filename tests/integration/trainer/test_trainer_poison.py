"""Strange entries where a trainer reads are set aside, dropped or reported, and the jobs go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from redis.asyncio import Redis
from trainer_platform import (
    NO_CURSOR,
    events,
    players_present,
    register,
    small_spec,
    submit,
    summary_of,
    surroundings,
    trainer_process,
    until_event,
    until_state,
)

from services.contracts import keys
from services.contracts.messages import OpenedGroup
from services.kit.dead_letters import dead_letters
from services.kit.kombu_layout import types_of_keys
from services.ledger import Ledger
from services.trainer.events import Events
from services.trainer.job.summary import close_ledger
from services.trainer.storage.checkpoint import PROGRESS, STATE, write_hashes

NO_BASELINES = {"evaluation": {"eval_baselines": False}}
POISON = [{b"q": b"x"}, {b"p": b"\xff\xfe"}, {b"p": b"\xff" * 20_000_000}]

STRANGERS = ["", "no group"]


async def held_groups(redis: Redis) -> list[str]:
    """The live groups that the rollout leaves unplayed."""
    ledger = Ledger(redis, "job")
    return [name for name in await ledger.live() if (await ledger.record_of(name)).cursor >= 3]


async def test_a_job_trains_on_whatever_is_written_into_its_streams_and_keys(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job") as rollout:
            rollout.held_from = 3
            await redis.set(keys.policy("job"), b"\xff{")
            await submit(redis, redis_url, "job", small_spec(**NO_BASELINES))
            await until_event(redis, "job", "metrics", batch=0)
            while len(held := await held_groups(redis)) < 2:  # pytest's timeout is the deadline
                await asyncio.sleep(0.02)
            for stream in (keys.scored_stream("job"), keys.groups_stream("job"), keys.episodes_stream("job")):
                for fields in POISON:
                    await redis.xadd(stream, fields)
            await redis.xadd(keys.scored_stream("job"), {b"p": held[0]})  # it is not
            for stranger in STRANGERS:
                await redis.xadd(keys.scored_stream("job"), {b"p": stranger})
            await redis.xadd(dead_letters(keys.groups_stream("job")), {b"q": b"x"})
            await redis.xadd(dead_letters(keys.groups_stream("job")), {b"p": b"\xff", b"cause": b"\xff"})
            await redis.hset(keys.group("job", held[1]), "state", b"\xff\xfe")
            await redis.hset(keys.policy_acks("job"), mapping={b"\xff": b"\xff", b"r9": b"{}"})
            await redis.delete(keys.control("job"))
            await redis.hset(keys.control("job"), "x", "y")
            rollout.held_from = NO_CURSOR
            assert await until_state(redis, "job", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    told = [str(event.data["message"]) for event in await events(redis, "job") if event.kind == "warning"]
    assert sum(keys.scored_stream("job") in text for text in told) == len(POISON)
    assert any(held[1] in text and "cannot be read" in text for text in told)
    assert await redis.xlen(dead_letters(keys.scored_stream("job"))) == len(POISON) + len(STRANGERS)
    balance = await Ledger(redis, "job").balance()
    assert (balance.live, balance.holds, balance.dropped["infra"]) == (0, True, 1)


NO_MESSAGES = [
    b"x",
    b"\xff\xfe",
    b"",
    b"{}",
    b"[1]",
    b"{" * 100_000,
    b'{"headers": {"a":' + b"[" * 100_000,
    b'{"body": 7, "headers": {}, "properties": {}}',
    b'{"body": "", "headers": {}, "content-type": "application/json", "content-encoding": "utf-8", "properties": {}}',
    b'{"body": "%", "headers": {}, "content-type": "application/json", "content-encoding": "utf-8",'
    b' "properties": {"delivery_tag": "t", "delivery_info": {}, "body_encoding": "base64"}}',
]


async def test_what_is_no_message_in_the_queue_is_set_aside_and_ends_no_worker(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    with trainer_process(redis_url, tmp_path) as trainer:
        await redis.lpush(keys.TRAINER_QUEUE, *NO_MESSAGES)
        async with surroundings(redis, redis_url, "job"):
            await submit(redis, redis_url, "job", small_spec(**NO_BASELINES, training={"total_batches": 1}))
            assert await until_state(redis, "job", "SUCCEEDED", "FAILED") == "SUCCEEDED"
        assert trainer.poll() is None
    letters = await redis.xrange(dead_letters(keys.TRAINER_QUEUE))
    assert sorted(fields[b"p"] for _, fields in letters) == sorted(NO_MESSAGES)
    assert all(b"want a message of Celery" in fields[b"cause"] for _, fields in letters)


async def test_values_of_another_type_under_the_queues_keys_keep_no_worker_from_starting(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    wanted = types_of_keys(keys.TRAINER_QUEUE)
    for key, kind in wanted.items():
        await (redis.hset(key, "x", "y") if kind == "string" else redis.set(key, b"\xff"))
    with trainer_process(redis_url, tmp_path):
        async with surroundings(redis, redis_url, "job"):
            await submit(redis, redis_url, "job", small_spec(**NO_BASELINES, training={"total_batches": 1}))
            assert await until_state(redis, "job", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    for key, kind in wanted.items():
        assert await redis.type(key) in (kind.encode(), b"none")


async def test_a_job_whose_ledger_is_spoiled_ends_and_the_next_one_trains(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    with trainer_process(redis_url, tmp_path):
        for number, key in enumerate((keys.ledger("bad0"), keys.spec("bad1"), keys.live("bad2"))):
            job = f"bad{number}"
            async with surroundings(redis, redis_url, job):
                await redis.set(keys.epoch(job), "garbage")
                await redis.hset(keys.events_stream(job), "x", "y")
                if key == keys.spec(job):
                    await submit(redis, redis_url, job, small_spec(**NO_BASELINES))
                    await redis.set(key, b"\xff{")
                else:
                    await redis.set(key, "garbage")
                    await submit(redis, redis_url, job, small_spec(**NO_BASELINES))
                while not await redis.exists(f"{keys.events_stream(job)}:misplaced"):
                    await asyncio.sleep(0.05)
                assert await until_state(redis, job, "SUCCEEDED", "FAILED")
        async with surroundings(redis, redis_url, "good"):
            await submit(redis, redis_url, "good", small_spec(**NO_BASELINES))
            assert await until_state(redis, "good", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    assert summary_of(tmp_path, "bad0")["state"] == "FAILED"


async def test_a_group_that_cannot_be_dropped_is_told_and_the_others_are_dropped(redis: Redis) -> None:
    ledger = Ledger(redis, "job")
    epoch = await ledger.claim_epoch()
    for name in ("spoiled", "whole"):
        group = OpenedGroup(
            job_id="job", group_id=name, purpose="train", cursor=0, task_seed=0, split="train", n=1, min_version=0
        )
        await ledger.open(epoch, group, max_attempts=3)
    await redis.set(keys.group("job", "spoiled"), "x")
    balance = await close_ledger(ledger, epoch, Events(redis, "job"))
    (warning,) = [event for event in await events(redis, "job") if event.kind == "warning"]
    assert "group spoiled could not be dropped" in str(warning.data["message"])
    assert (balance.live, balance.dropped["cancelled"]) == (1, 1)


async def test_a_job_whose_files_are_of_a_newer_release_fails_with_the_side_to_upgrade(
    redis: Redis, redis_url: str, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "jobs" / "progress" / "checkpoints" / "b000002"
    (checkpoint / STATE).mkdir(parents=True)
    (checkpoint / STATE / PROGRESS).write_text('{"schema": 99}')
    write_hashes(checkpoint)
    (tmp_path / "jobs" / "evaluations").mkdir()
    (tmp_path / "jobs" / "evaluations" / "evaluations.json").write_text('[{"schema": 99}]')
    with trainer_process(redis_url, tmp_path):
        await players_present(redis)
        for job in ("evaluations", "progress"):
            await register(redis, job)
            await submit(redis, redis_url, job, small_spec(**NO_BASELINES))
            assert await until_state(redis, job, "SUCCEEDED", "FAILED") == "FAILED"
            told = await until_event(redis, job, "state", state="FAILED")
            assert f"{job}.json has schema 99: a newer release wrote it" in told.data["error"]
            assert summary_of(tmp_path, job)["state"] == "FAILED"
    assert checkpoint.is_dir()
