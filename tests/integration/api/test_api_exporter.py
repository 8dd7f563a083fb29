"""The API exports figures of queues and ledgers, by which KEDA scales, on a real API and Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from services.contracts import keys
from tests.integration.api.api_process import ApiProcess, running_api
from tests.integration.api.submitting import spec, until
from tests.monitoring import samples


@pytest.fixture
def api(redis_url: str, env_address: str, tmp_path: Path) -> Iterator[ApiProcess]:
    with running_api(tmp_path, redis_url, env_address, API_EXPORT_S="0.1") as process:
        yield process


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


def shows(api: ApiProcess, name: str, labels: tuple[str, ...], value: float) -> None:
    """Return once the metric has the value."""
    _soon(lambda: samples(httpx.get(f"{api.metrics}/metrics", timeout=30).text, name).get(labels) == value)


def _soon(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, "nothing happened for 120 s"
        time.sleep(0.05)


def running(api: ApiProcess, http: httpx.Client) -> str:
    job = str(http.post("/v1/jobs", json=spec()).raise_for_status().json()["id"])
    until(http, job, "QUEUED")
    api.say(job, "state", state="RUNNING")
    until(http, job, "RUNNING")
    return job


def test_queues_ledger_and_their_faults_are_exported_while_the_job_runs(
    api: ApiProcess, http: httpx.Client, redis: Redis
) -> None:
    job = running(api, http)
    shows(api, "gigpo_jobs", ("RUNNING",), 1)
    stream = keys.groups_stream(job)
    ids = [redis.xadd(stream, {"p": b"a group"}) for _ in range(4)]
    redis.xgroup_create(stream, "rollout", id="0")
    redis.xreadgroup("rollout", "one", {stream: ">"}, count=1)
    redis.xdel(stream, ids[3])  # nobody had read it, so Redis does not know the lag any more
    shows(api, "gigpo_queue_entries", (job, "groups", "waiting"), 2)
    shows(api, "gigpo_queue_entries", (job, "groups", "in_flight"), 1)
    redis.hset(keys.ledger(job), mapping={"opened": 5, "consumed": 1, "dropped:infra": 1})
    redis.sadd(keys.live(job), "t1", "t2")
    shows(api, "gigpo_ledger_groups", (job, "infra", "dropped"), 1)
    shows(api, "gigpo_ledger_imbalance_groups", (job,), 1)
    redis.sadd(keys.live(job), "t3")
    shows(api, "gigpo_ledger_imbalance_groups", (job,), 0)
    views = http.get("/v1/system").json()["queues"]
    assert next(one for one in views if one["name"] == "groups")["waiting"] == 2


def test_a_ledger_that_cannot_be_read_is_no_number(api: ApiProcess, http: httpx.Client, redis: Redis) -> None:
    job = running(api, http)
    redis.hset(keys.ledger(job), "opened", "many")

    def unreadable() -> bool:
        text = httpx.get(f"{api.metrics}/metrics", timeout=30).text
        value = samples(text, "gigpo_ledger_imbalance_groups").get((job,), 0.0)
        return value != value

    _soon(unreadable)
