"""A Redis that forgot what it was told of a job: the API says it again, and a real trainer runs the job.

`test_api_storage.py` has what the API notes meanwhile, on both databases.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from redis import Redis

from services.contracts import keys
from services.contracts.policy import ReplicaStatus
from tests.integration.api.api_process import ApiProcess, running_api
from tests.integration.api.submitting import spec, until
from tests.integration.trainer.trainer_platform import children, trainer_process

QUEUE = "trainer\x06\x169"
LOOK_S = 0.3


@pytest.fixture
def api(redis_url: str, env_address: str, tmp_path: Path) -> Iterator[ApiProcess]:
    with running_api(tmp_path, redis_url, env_address, API_LOSS_S=str(LOOK_S)) as process:
        yield process


@pytest.fixture
def forgetful(redis_url: str) -> Iterator[Redis]:
    """Start with a replica that is always there, as jobs would wait for one otherwise."""
    status = ReplicaStatus(replica="r", job_id=None, version=-1, engine="", state="idle")
    with Redis.from_url(redis_url) as client:
        client.hset(keys.REPLICAS, "r", status.model_dump_json())
        client.set(keys.replica_heartbeat("r"), "r")
        yield client


def wait_until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "nothing happened for 60 s"
        time.sleep(0.05)


def submitted(http: httpx.Client) -> str:
    job: str = http.post("/v1/jobs", json=spec()).raise_for_status().json()["id"]
    until(http, job, "QUEUED")
    return job


def losses_looked(redis: Redis, canary: str) -> None:
    """Return once the API has looked for losses twice and mended them: what it was told of the canary is lost too."""
    redis.delete(keys.control(canary))
    wait_until(lambda: redis.exists(keys.control(canary)))


def warnings(http: httpx.Client, job: str) -> str:
    events = http.get(f"/v1/jobs/{job}/events", params={"follow": False}).text
    return "\n".join(line for line in events.splitlines() if '"warning"' in line)


def test_what_redis_forgot_of_a_job_is_told_again_and_the_job_runs(
    api: ApiProcess, http: httpx.Client, forgetful: Redis
) -> None:
    job, canary = submitted(http), submitted(http)
    wait_until(lambda: api.queued_jobs() == [job, canary])
    losses_looked(forgetful, canary)
    assert api.queued_jobs() == [job, canary], "nothing was lost, nothing is repeated"
    http.post(f"/v1/jobs/{canary}:cancel").raise_for_status()
    until(http, canary, "CANCELLED")
    forgetful.delete(QUEUE, keys.spec(job), keys.environment(job), keys.control(job), keys.events_stream(job))
    wait_until(lambda: api.queued_jobs() == [job])
    assert "lost this job's place" in warnings(http, job)
    with trainer_process(api.redis_url, api.data_dir):
        until(http, job, "RUNNING")
        losses_looked(forgetful, submitted(http))
        assert job not in api.queued_jobs(), "what a worker holds is not lost"
        forgetful.set(keys.control(job), "run")
        assert http.post(f"/v1/jobs/{job}:cancel").status_code == 202
        until(http, job, "CANCELLED")


def test_a_running_job_whose_trainer_died_and_whose_message_is_gone_goes_on(
    api: ApiProcess, http: httpx.Client, forgetful: Redis
) -> None:
    job = http.post("/v1/jobs", json=spec()).raise_for_status().json()["id"]
    with trainer_process(api.redis_url, api.data_dir) as first:
        until(http, job, "RUNNING")
        assert children(first)
        first.kill()
        first.wait()
    epoch = int(forgetful.get(keys.epoch(job)) or 0)  # type: ignore[arg-type]
    forgetful.delete("unacked", "unacked_index")
    wait_until(lambda: api.queued_jobs() == [job])
    assert http.get(f"/v1/jobs/{job}").json()["state"] == "RUNNING"
    with trainer_process(api.redis_url, api.data_dir):
        wait_until(lambda: int(forgetful.get(keys.epoch(job)) or 0) > epoch)  # type: ignore[arg-type]
        http.post(f"/v1/jobs/{job}:cancel").raise_for_status()
        until(http, job, "CANCELLED")


def test_a_queued_job_says_which_trainer_it_waits_for(api: ApiProcess, http: httpx.Client, forgetful: Redis) -> None:
    first, second = submitted(http), submitted(http)
    none = "waits for a trainer: none is running"
    wait_until(lambda: (reason(http, first), reason(http, second)) == (none, f"{none}; jobs before it: 1"))
    with trainer_process(api.redis_url, api.data_dir):
        wait_until(lambda: reason(http, second) == "waits for a trainer: all 1 are at work")
        told = http.get(f"/v1/jobs/{second}/events", params={"follow": False}).text
        assert told.count("none is running") == told.count("all 1 are at work") == 1


def reason(http: httpx.Client, job: str) -> object:
    return http.get(f"/v1/jobs/{job}").json()["waits_for"]


def test_a_redis_that_refuses_writes_is_told_of_and_ends_nothing(
    api: ApiProcess, http: httpx.Client, forgetful: Redis
) -> None:
    job = submitted(http)
    forgetful.sadd(keys.ACTIVE_JOBS, job)
    try:
        forgetful.config_set("maxmemory", "1")
        wait_until(lambda: "used memory" in http.get("/healthz").json()["checks"]["redis"])
        assert http.post("/v1/jobs", json=spec()).status_code == 201, "it is kept, and dispatched later"
        forgetful.config_set("maxmemory", "0")
        wait_until(lambda: http.get("/healthz").json()["checks"]["redis"] == "ok")
        wait_until(lambda: refused_for(forgetful, 1.0) and "Redis refused writes for" in warnings(http, job))
    finally:
        forgetful.config_set("maxmemory", "0")


def refused_for(redis: Redis, seconds: float) -> bool:
    """A while of refusals, and then of none, each of many looks of the API; on a busy machine none may fall into it."""
    for most_bytes in ("1", "0"):
        redis.config_set("maxmemory", most_bytes)
        time.sleep(seconds)
    return True
