"""Strange entries in Redis where the API reads stop neither its loops nor any other job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from redis import Redis

from services.contracts import keys
from services.contracts.messages import JobEvent, encode
from services.kit.dead_letters import dead_letters
from tests.integration.api.api_process import ApiProcess, running_api
from tests.integration.api.submitting import spec, until

LOOK_S = 0.3
DEEP = b"\x91" * 200_000


@pytest.fixture
def api(redis_url: str, env_address: str, tmp_path: Path) -> Iterator[ApiProcess]:
    with running_api(tmp_path, redis_url, env_address, API_LOSS_S=str(LOOK_S)) as process:
        yield process


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


def event(kind: str = "metrics", at_unix_s: float = 1.0, **data: Any) -> bytes:
    return encode(JobEvent(kind=kind, at_unix_s=at_unix_s, data=data))


def state(name: str) -> dict[bytes, bytes]:
    return {b"p": event("state", state=name)}


REFUSED = [
    {b"q": b"x"},
    {b"p": b""},
    {b"p": b"\xff\xfe"},
    {b"p": b"\xff" * 20_000_000},
    {b"p": encode(JobEvent(schema=99, kind="state", at_unix_s=0.0, data={}))},
    {b"p": event(at_unix_s=float("nan"))},
    {b"p": event()[:-1] + b"\x81\xa1a" + DEEP + b"\xc0"},
]
ODD = [
    {b"p": event(value=msgspec.msgpack.Ext(1, b"x")), b"more": b"x"},
    {b"p": event(value=b"\xff", number=float("inf"), text="a\0")},
    {b"p": event("state", state=b"\xff")},
    {b"p": event("phase", phase=None)},
    {b"p": event("?" * 100)},
]


def submitted(http: httpx.Client) -> str:
    job = str(http.post("/v1/jobs", json=spec()).raise_for_status().json()["id"])
    until(http, job, "QUEUED")
    return job


def warnings_of(http: httpx.Client, job: str) -> int:
    """How often the job's owner was told of an event that cannot be read."""
    return http.get(f"/v1/jobs/{job}/events", params={"follow": False}).text.count("unreadable event")


def test_events_that_are_none_are_set_aside_and_told_and_the_others_are_stored(
    http: httpx.Client, redis: Redis
) -> None:
    bad, good = submitted(http), submitted(http)
    for fields in [*REFUSED, *ODD]:
        redis.xadd(keys.events_stream(bad), fields)
        redis.xadd(keys.events_stream(good), state("RUNNING"))
    redis.xadd(keys.events_stream(bad), state("RUNNING"))
    until(http, good, "RUNNING")
    until(http, bad, "RUNNING")
    while warnings_of(http, bad) < len(REFUSED):  # they are events of their own, stored by a later look
        time.sleep(0.05)
    assert warnings_of(http, bad) == len(REFUSED)
    redis.xadd(keys.events_stream(bad), state("CANCELLED"))  # an end: whoever wishes a job to run takes up a paused one
    until(http, bad, "CANCELLED")
    assert redis.xlen(dead_letters(keys.events_stream(bad))) == len(REFUSED)


def test_a_stream_whose_ids_cannot_be_stored_begins_anew(http: httpx.Client, redis: Redis) -> None:
    bad, good = submitted(http), submitted(http)
    redis.xadd(keys.events_stream(bad), state("RUNNING"), id=f"{2**64 - 1}-{2**64 - 1}")
    redis.xadd(keys.events_stream(good), state("RUNNING"))
    until(http, good, "RUNNING")
    while not redis.exists(f"{keys.events_stream(bad)}:misplaced"):
        time.sleep(0.05)
    redis.xadd(keys.events_stream(bad), state("RUNNING"))
    until(http, bad, "RUNNING")


def test_no_value_of_another_kind_stops_another_job(http: httpx.Client, redis: Redis) -> None:
    bad = submitted(http)
    redis.sadd(keys.ACTIVE_JOBS, b"\xff\xfe", bad)
    for key in (keys.events_stream(bad), keys.control(bad), keys.ledger(bad)):
        redis.delete(key)
        redis.hset(key, "x", b"\xff")
    redis.hset(keys.ledger(bad), "opened", "many")
    redis.set(keys.service_heartbeat("rollout", "r1"), b"\xff{")
    redis.set(keys.service_heartbeat("rollout", "r2"), b"[]")
    redis.hset(keys.service_heartbeat("rollout", "r3"), "x", "y")
    good = submitted(http)
    redis.xadd(keys.events_stream(good), state("RUNNING"))
    until(http, good, "RUNNING")
    while redis.type(keys.control(bad)) != b"string":  # told again what the user wants
        time.sleep(0.05)
    while not redis.exists(f"{keys.events_stream(bad)}:misplaced"):
        time.sleep(0.05)
    redis.xadd(keys.events_stream(bad), state("RUNNING"))
    until(http, bad, "RUNNING")
    system = http.get("/v1/system").raise_for_status().json()
    assert system["ledger"]["balanced"] is False
