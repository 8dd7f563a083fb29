"""Alarms on a real API and Redis: raised once, told where people look, and cleared when they are over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from services.contracts import keys
from services.contracts.alarms import BY_NAME
from services.contracts.messages import OpenedGroup, encode
from services.kit.dead_letters import dead_letters
from tests.integration.api.api_process import ApiProcess, running_api
from tests.integration.api.submitting import spec, until

LOOK_S = "0.1"
SOON = {"limits": {"batch_timeout_s": 0.2}}


@pytest.fixture
def api(redis_url: str, env_address: str, tmp_path: Path) -> Iterator[ApiProcess]:
    with running_api(tmp_path, redis_url, env_address, API_ALARM_S=LOOK_S) as process:
        yield process


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


def running(api: ApiProcess, http: httpx.Client, **sections: Any) -> str:
    job = str(http.post("/v1/jobs", json=spec(**sections)).raise_for_status().json()["id"])
    until(http, job, "QUEUED")
    api.say(job, "state", state="RUNNING")
    until(http, job, "RUNNING")
    return job


def alarms(http: httpx.Client, name: str) -> list[dict[str, Any]]:
    found = http.get("/v1/system").raise_for_status().json()["alarms"]
    return [one for one in found if one["name"] == name]


def told(http: httpx.Client, job: str) -> list[tuple[str, bool]]:
    """The job's events of alarms: name, and whether it was raised."""
    text = http.get(f"/v1/jobs/{job}/events", params={"follow": False}).text
    events = [json.loads(line[6:])["data"] for line in text.splitlines() if line.startswith("data: ")]
    return [(one["name"], one["raised"]) for one in events if "raised" in one]


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, "nothing happened for 120 s"
        time.sleep(0.05)


@dataclass(frozen=True)
class Trouble:
    """How an alarm comes about, and how it ends."""

    begin: Callable[[Redis, ApiProcess, str], object]
    end: Callable[[Redis, ApiProcess, str], object]


def _batches(api: ApiProcess, job: str, first: int, rows: int, count: int, **more: float) -> None:
    for batch in range(first, first + count):
        api.say(job, "metrics", batch=batch, trained_rows=rows, success=0.2, **more)


def _opened(job: str) -> dict[str, bytes]:
    group = OpenedGroup(
        job_id=job, group_id="g1", purpose="train", cursor=0, task_seed=0, split="train", n=2, min_version=0
    )
    return {"p": encode(group)}


SECTIONS = {"oldest_pending": SOON, "inert_step_level": {"algorithm": {"advantage_estimator": "gigpo"}}}
"""What a job needs for some of the alarms."""
TROUBLES = {
    "ledger_imbalance": Trouble(
        lambda redis, _, job: redis.hset(keys.ledger(job), "opened", 5),
        lambda redis, _, job: redis.hset(keys.ledger(job), "opened", 0),
    ),
    "oldest_pending": Trouble(
        lambda redis, _, job: redis.xadd(keys.groups_stream(job), _opened(job)),  # type: ignore[arg-type]
        lambda redis, _, job: redis.delete(keys.groups_stream(job)),
    ),
    "dead_letters": Trouble(
        lambda redis, _, job: redis.xadd(dead_letters(keys.groups_stream(job)), {"p": "x", "cause": "poison"}),
        lambda redis, _, job: redis.delete(dead_letters(keys.groups_stream(job))),
    ),
    "livelock": Trouble(
        lambda redis, _, job: redis.hset(keys.takes(job), mapping={"position": "0 0 0 0", "count": 3}),
        lambda redis, _, job: redis.delete(keys.takes(job)),
    ),
    "infra_share": Trouble(
        lambda redis, _, job: redis.hset(keys.ledger(job), mapping={"opened": 40, "consumed": 30, "dropped:infra": 10}),
        lambda redis, _, job: redis.hset(keys.ledger(job), mapping={"opened": 400, "consumed": 390}),
    ),
    "zero_variance_streak": Trouble(
        lambda _, api, job: _batches(api, job, 0, 0, 5), lambda _, api, job: _batches(api, job, 5, 9, 1)
    ),
    "inert_step_level": Trouble(
        lambda _, api, job: _batches(api, job, 0, 9, 5, step_group_share_1=0.99),
        lambda _, api, job: _batches(api, job, 5, 9, 1, step_group_share_1=0.2),
    ),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_an_alarm_of_a_job_is_raised_once_and_cleared_when_it_is_over(
    http: httpx.Client, redis: Redis, api: ApiProcess, name: str
) -> None:
    job, other = running(api, http, **SECTIONS.get(name, {})), running(api, http)
    TROUBLES[name].begin(redis, api, job)
    wait_until(lambda: alarms(http, name))
    (alarm,) = alarms(http, name)
    assert (alarm["job_id"], alarm["value"] > alarm["above"]) == (job, True)
    for path in (f"/jobs/{job}", "/system"):
        assert BY_NAME[name].title in http.get(path).raise_for_status().text
    wait_until(lambda: told(http, job) == [(name, True)])
    TROUBLES[name].end(redis, api, job)
    wait_until(lambda: not alarms(http, name))
    wait_until(lambda: told(http, job) == [(name, True), (name, False)])
    assert told(http, other) == []


def test_a_replica_that_falls_silent_is_an_alarm_of_the_installation(http: httpx.Client, redis: Redis) -> None:
    for replica in ("host-1", "host-2"):
        redis.hset(keys.REPLICAS, replica, "{}")
    redis.set(keys.replica_heartbeat("host-1"), "1")
    wait_until(lambda: alarms(http, "replica_silent"))
    (alarm,) = alarms(http, "replica_silent")
    assert (alarm["subject"], alarm["job_id"]) == ("host-2", None)
    assert "host-2 of inference" in http.get("/system").raise_for_status().text
    redis.set(keys.replica_heartbeat("host-2"), "1")
    wait_until(lambda: not alarms(http, "replica_silent"))


def test_an_expected_service_without_an_instance_is_an_alarm(redis_url: str, env_address: str, tmp_path: Path) -> None:
    more = {"API_ALARM_S": LOOK_S, "API_EXPECTED_SERVICES": '["rollout"]'}
    with running_api(tmp_path, redis_url, env_address, **more) as api, httpx.Client(base_url=api.url) as http:
        wait_until(lambda: [one["subject"] for one in alarms(http, "replica_silent")] == ["rollout"])


def test_another_process_that_leads_raises_no_alarm_again(
    redis_url: str, redis: Redis, env_address: str, tmp_path: Path
) -> None:
    with (
        running_api(tmp_path, redis_url, env_address, API_ALARM_S=LOOK_S) as api,
        httpx.Client(base_url=api.url) as http,
    ):
        job = running(api, http)
        redis.hset(keys.takes(job), mapping={"count": 3})
        wait_until(lambda: told(http, job) == [("livelock", True)])
    with (
        running_api(tmp_path, redis_url, env_address, API_ALARM_S=LOOK_S) as api,
        httpx.Client(base_url=api.url) as http,
    ):
        redis.hset(keys.ledger(job), "opened", 5)  # raised by the new one, after it saw the other
        wait_until(lambda: ("ledger_imbalance", True) in told(http, job))
        assert told(http, job).count(("livelock", True)) == 1


def test_an_ended_job_has_no_alarms_and_leaves_none_behind(http: httpx.Client, redis: Redis, api: ApiProcess) -> None:
    job = running(api, http)
    redis.hset(keys.takes(job), mapping={"count": 3})
    wait_until(lambda: alarms(http, "livelock"))
    api.say(job, "state", state="CANCELLED")
    until(http, job, "CANCELLED")
    assert not alarms(http, "livelock")
    wait_until(lambda: not redis.exists(keys.alarms(job)))


@pytest.mark.parametrize("value", [b"\xff", b"{}", b"[]", b'{"since_unix_s": "x"}'])
def test_what_is_no_alarm_is_passed_over(http: httpx.Client, redis: Redis, api: ApiProcess, value: bytes) -> None:
    job = running(api, http)
    redis.hset(keys.alarms(job), mapping={b"livelock": value, b"\xfe": value, b"of_a_later_version": value})
    redis.set(keys.ALARMS, "x")
    redis.hset(keys.takes(job), mapping={"count": 3})
    wait_until(lambda: alarms(http, "livelock"))
