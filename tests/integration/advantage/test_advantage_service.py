"""The advantage service on a real server: many jobs at once, death between read and score, poison."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from services.advantage.consumer import Consumer
from services.advantage.service import advantage_config, finished_group, score_groups
from services.advantage.settings import Settings
from services.contracts import keys
from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.job import JobSpec, parse_spec
from services.contracts.messages import CompleteGroup, Episode, JobEvent, OpenedGroup, Step, decode, encode
from services.kit.dead_letters import dead_letters
from services.kit.streams import StreamConsumer
from services.kit.values import string_value
from services.ledger import GroupState, Ledger
from services.ledger.ledger import ADVANTAGE

GIVE_UP_S = 30.0
Spoil = Callable[[Redis], Awaitable[None]]


def spec(estimator: str) -> JobSpec:
    return parse_spec(
        {
            "model": {"scratch": {}},
            "algorithm": {"advantage_estimator": estimator},
            "rollout": {"num_generations": 2, "max_completion_length": 8},
        }
    )


def episode(group: str, k: int, rewards: list[float], anchor: bytes = b"\1" * 16) -> Episode:
    steps = [
        Step(
            step_index=i, prompt_ids=pack_int32([1]), response_ids=pack_int32([2]), logprobs=pack_float32([-1.0]),
            versions=pack_int32([0]), reward=reward, anchor_key=anchor, state_key=b"\0" * 16, anchor="a", action="go",
            action_valid=True,
        )
        for i, reward in enumerate(rewards)
    ]  # fmt: skip
    return Episode(
        group_id=group, episode_id=f"{group}/{k}", k=k, attempt=1, task="t", steps=steps, won=False, score=0.0,
        terminated=True, truncated=False, worker="w",
    )  # fmt: skip


async def complete(redis: Redis, job: str, name: str, episodes: list[Episode], cursor: int = 0) -> None:
    ledger, n = Ledger(redis, job), len(episodes)
    group = OpenedGroup(
        job_id=job, group_id=name, purpose="train", cursor=cursor, task_seed=1, split="train", n=n, min_version=0
    )
    epoch = int(await redis.get(keys.epoch(job)) or 0) or await ledger.claim_epoch()
    await ledger.open(epoch, group, 3)
    await ledger.start(name, "w")
    for one in episodes:
        await ledger.record(one, group)


async def activate(redis: Redis, job: str, estimator: str = "gigpo") -> None:
    await redis.set(keys.spec(job), spec(estimator).model_dump_json())
    await redis.sadd(keys.ACTIVE_JOBS, job)


@asynccontextmanager
async def service(redis: Redis, redis_url: str, **overrides: float) -> AsyncIterator[Consumer]:
    settings = Settings(redis_url=redis_url, jobs_poll_s=0.05, **overrides)
    consumer, stop = Consumer(redis, settings, "advantage-test"), asyncio.Event()
    running = asyncio.create_task(consumer.run(stop))
    try:
        yield consumer
    finally:
        stop.set()
        await running


async def until_state(redis: Redis, job: str, name: str, wanted: GroupState) -> None:
    async with asyncio.timeout(GIVE_UP_S):
        while True:
            record = await Ledger(redis, job).record_of(name)
            if record is not None and record.state is wanted:
                return
            await asyncio.sleep(0.02)


async def until_dead_letter(redis: Redis, job: str) -> tuple[bytes, bytes]:
    """The first dead letter's payload and cause."""
    async with asyncio.timeout(GIVE_UP_S):
        while not (letters := await redis.xrange(f"{keys.episodes_stream(job)}:dead")):
            await asyncio.sleep(0.02)
    return letters[0][1][b"p"], letters[0][1][b"cause"]


async def until_scored(redis: Redis, job: str, name: str) -> bytes:
    await until_state(redis, job, name, GroupState.SCORED)
    stored = await string_value(redis, keys.scores(job, name))
    assert stored is not None
    return stored


async def expected(redis: Redis, job: str, name: str, estimator: str, cursor: int = 0) -> bytes:
    payloads = await Ledger(redis, job).episodes_of(name)
    group = finished_group(name, "train", cursor, payloads)
    return encode(score_groups([group], advantage_config(spec(estimator).algorithm))[0])


async def test_groups_of_many_jobs_are_scored_as_if_each_were_alone(redis: Redis, redis_url: str):
    estimators = {"job_a": "gigpo", "job_b": "grpo", "job_c": "gigpo"}
    for job, estimator in estimators.items():
        await activate(redis, job, estimator)
        for cursor in range(6):
            episodes = [episode(f"g{cursor}", k, [0.0, float(k == cursor % 2)]) for k in range(2)]
            await complete(redis, job, f"g{cursor}", episodes, cursor)
    async with service(redis, redis_url):
        for job, estimator in estimators.items():
            for cursor in range(6):
                stored = await until_scored(redis, job, f"g{cursor}")
                assert stored == await expected(redis, job, f"g{cursor}", estimator, cursor)
    for job in estimators:
        assert await redis.xlen(keys.episodes_stream(job)) == 0
        assert await redis.xlen(keys.scored_stream(job)) == 6


async def test_a_group_read_by_a_replica_that_died_is_scored_by_another(redis: Redis, redis_url: str):
    await activate(redis, "job_a")
    await complete(redis, "job_a", "g", [episode("g", k, [float(k)]) for k in range(2)])
    dead = StreamConsumer(redis, keys.episodes_stream("job_a"), ADVANTAGE, "dead")
    assert len(await dead.read(8)) == 1  # read, and then nothing more was heard of it
    async with service(redis, redis_url, reclaim_idle_s=0.1):
        assert await until_scored(redis, "job_a", "g") == await expected(redis, "job_a", "g", "gigpo")
    assert (await redis.xpending(keys.episodes_stream("job_a"), ADVANTAGE))["pending"] == 0


async def test_a_poisonous_group_is_set_aside_with_its_cause_and_holds_nobody_up(redis: Redis, redis_url: str):
    await activate(redis, "job_a")
    broken = [episode("bad", 0, [0.0]), episode("bad", 1, [float("nan")])]
    await complete(redis, "job_a", "bad", broken)
    await complete(redis, "job_a", "good", [episode("good", k, [float(k)]) for k in range(2)])
    async with service(redis, redis_url, reclaim_idle_s=0.1):
        await until_scored(redis, "job_a", "good")
        payload, cause = await until_dead_letter(redis, "job_a")
    assert b"bad" in payload
    assert b"reward is nan" in cause
    ((_, event),) = await redis.xrange(keys.events_stream("job_a"))
    assert "reward is nan" in decode(event[b"p"], JobEvent).data["message"]
    assert (await redis.xpending(keys.episodes_stream("job_a"), ADVANTAGE))["pending"] == 0


@pytest.mark.parametrize("payload", [b"\xc1", b"text"])
async def test_bytes_that_are_no_message_are_set_aside(redis: Redis, redis_url: str, payload: bytes):
    await activate(redis, "job_a")
    await redis.xadd(keys.episodes_stream("job_a"), {b"p": payload})
    async with service(redis, redis_url, reclaim_idle_s=0.1):
        assert (await until_dead_letter(redis, "job_a"))[0] == payload
    assert await redis.xlen(keys.episodes_stream("job_a")) == 0


async def test_the_process_announces_itself_scores_and_ends_cleanly(redis: Redis, redis_url: str):
    await activate(redis, "job_a")
    process = subprocess.Popen(
        [sys.executable, "-m", "services.advantage.main"],
        env={**os.environ, "ADVANTAGE_REDIS_URL": redis_url},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert b'"service": "advantage"' in await asyncio.to_thread(process.stdout.readline)
    await complete(redis, "job_a", "g", [episode("g", k, [float(k)]) for k in range(2)])
    assert await until_scored(redis, "job_a", "g") == await expected(redis, "job_a", "g", "gigpo")
    process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait) == 0
    process.stdout.close()
    assert not [key async for key in redis.scan_iter("services:alive:advantage:*")]


POISON = [
    {b"q": b"x"},
    {b"p": b""},
    {b"p": b"\xff\xfe"},
    {b"p": b"\xff" * 50_000_000},
    {b"p": encode(JobEvent(kind="state", at_unix_s=0.0, data={}))},
    {b"p": encode(CompleteGroup(schema=99, job_id="job_a", group_id="g", purpose="train", cursor=0))},
]


@pytest.mark.parametrize("fields", POISON, ids=range(len(POISON)))
async def test_an_entry_that_is_no_message_is_refused_at_once_and_holds_nobody_up(
    redis: Redis, redis_url: str, fields: dict[bytes, bytes]
):
    for job in ("job_a", "job_b"):
        await activate(redis, job)
        poison = await redis.xadd(keys.episodes_stream("job_a"), fields)
        await complete(redis, job, "g", [episode("g", k, [float(k)]) for k in range(2)])
    async with service(redis, redis_url, reclaim_idle_s=3_600):
        for job in ("job_a", "job_b"):
            await until_scored(redis, job, "g")
    assert await redis.xlen(keys.episodes_stream("job_a")) == 0
    letters = await redis.xrange(dead_letters(keys.episodes_stream("job_a")))
    assert [letter[b"id"] for _, letter in letters][-1] == poison
    events = [decode(event[b"p"], JobEvent) for _, event in await redis.xrange(keys.events_stream("job_a"))]
    assert [event.kind for event in events] == ["warning"] * 2
    cause, _, _ = letters[-1][1][b"cause"].decode().partition("; of ")  # the letter's also tells what was left out
    assert cause in events[-1].data["message"]


async def spoil_the_fields(redis: Redis) -> None:
    await redis.hset(keys.episodes("bad", "g"), "garbage", "x")


async def spoil_an_episode(redis: Redis) -> None:
    await redis.hset(keys.episodes("bad", "g"), "0", b"\xff")


async def spoil_the_episodes(redis: Redis) -> None:
    await redis.set(keys.episodes("bad", "g"), "x")


async def spoil_the_record(redis: Redis) -> None:
    await redis.set(keys.group("bad", "g"), "x")


async def spoil_the_scores(redis: Redis) -> None:
    await redis.hset(keys.group("bad", "g"), "state", b"\xff\xfe")


async def spoil_the_spec(redis: Redis) -> None:
    await redis.set(keys.spec("bad"), b"\xff{")


async def spoil_the_spec_s_type(redis: Redis) -> None:
    await redis.delete(keys.spec("bad"))
    await redis.sadd(keys.spec("bad"), "x")


async def spoil_the_stream(redis: Redis) -> None:
    await redis.set(keys.episodes_stream("bad"), "x")


async def spoil_the_events(redis: Redis) -> None:
    await redis.set(keys.events_stream("bad"), "x")
    await redis.xadd(keys.episodes_stream("bad"), {b"q": b"x"})


async def spoil_the_dead_letters(redis: Redis) -> None:
    await redis.set(dead_letters(keys.episodes_stream("bad")), "x")
    await redis.xadd(keys.episodes_stream("bad"), {b"q": b"x"})


async def spoil_the_active_jobs(redis: Redis) -> None:
    await redis.sadd(keys.ACTIVE_JOBS, b"\xff\xfe", "nobody", "")


SPOILERS = [value for name, value in list(globals().items()) if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILERS)
async def test_what_is_spoiled_of_one_job_stops_no_other(redis: Redis, redis_url: str, spoil: Spoil):
    await activate(redis, "bad")
    await complete(redis, "bad", "g", [episode("g", k, [float(k)]) for k in range(2)])
    await spoil(redis)
    async with service(redis, redis_url, reclaim_idle_s=0.1):
        for cursor in range(3):  # one after the other, while what is spoiled comes again
            if cursor == 0:
                await activate(redis, "good")
            await complete(
                redis, "good", f"g{cursor}", [episode(f"g{cursor}", k, [float(k)]) for k in range(2)], cursor
            )
            await until_scored(redis, "good", f"g{cursor}")
            await asyncio.sleep(0.2)
