"""Trainer, advantage service, inference replica and API with their keys on a cluster, and Celery's queue beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import JobEvent, encode
from services.kit.dead_letters import set_entry_aside
from services.kit.streams import append
from services.ledger import Ledger
from tests.integration.api.api_process import ApiProcess, environment_service, running_api
from tests.integration.trainer.trainer_platform import (
    one_replica,
    players_present,
    small_spec,
    submit,
    summary_of,
    surroundings,
    trainer_process,
    until_state,
)

SPEC: dict[str, Any] = {"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}


@pytest.fixture
def broker_url(redis_url: str) -> str:
    """The server beside the cluster, emptied."""
    return redis_url


async def test_a_job_trains(redis: Redis, cluster_url: str, broker_url: str, tmp_path: Path) -> None:
    spec = small_spec(training={"total_batches": 1}, evaluation={"eval_baselines": False, "eval_episodes": 3})
    with trainer_process(cluster_url, tmp_path, broker_url=broker_url):
        async with surroundings(redis, cluster_url, "job_a", replica=False), one_replica(cluster_url, tmp_path):
            await submit(redis, broker_url, "job_a", spec)
            assert await until_state(redis, "job_a", "SUCCEEDED", "FAILED") == "SUCCEEDED"
    balance = await Ledger(redis, "job_a").balance()
    assert (balance.live, balance.holds, balance.consumed) == (0, True, balance.opened)
    assert summary_of(tmp_path, "job_a")["state"] == "SUCCEEDED"


@pytest.fixture
def api(cluster_url: str, redis: Redis, broker_url: str, tmp_path: Path) -> Iterator[ApiProcess]:
    with (
        environment_service() as environments,
        running_api(tmp_path, cluster_url, environments, API_BROKER_URL=broker_url, API_ALARM_S="1") as process,
    ):
        yield process


async def until(found: Any, wanted: object) -> None:
    deadline = time.monotonic() + 120
    while (last := await asyncio.to_thread(found)) != wanted:
        assert time.monotonic() < deadline, last
        await asyncio.sleep(0.1)


async def test_the_api_serves(api: ApiProcess, redis: Redis, broker_url: str) -> None:
    queue = ApiProcess(api.url, api.data_dir, broker_url, api.process, api.metrics)
    with httpx.Client(base_url=api.url, timeout=60) as http:
        jobs = [http.post("/v1/jobs", json={**SPEC, "name": name}).json()["id"] for name in ("first", "second")]
        await until(lambda: sorted(queue.queued_jobs()), sorted(jobs))
        await players_present(redis)
        await until(lambda: http.get("/healthz").json()["checks"]["redis"], "ok")
        job = jobs[0]
        for one in jobs:
            await append(redis, keys.events_stream(one), _state("RUNNING"))
        await until(lambda: {http.get(f"/v1/jobs/{one}").json()["state"] for one in jobs}, {"RUNNING"})
        letter = await redis.xadd(keys.groups_stream(job), {"q": "x"})
        await set_entry_aside(redis, keys.groups_stream(job), letter.decode(), "poison")
        assert [one["cause"] for one in http.get("/v1/dead-letters").json()["items"]] == ["poison"]
        await until(lambda: "dead_letters" in alarms(http), wanted=True)
        watch = http.post(f"/v1/jobs/{job}/watches", json={}).raise_for_status().json()
        assert await redis.llen(keys.plays(job)) == 1
        assert http.delete(f"/v1/jobs/{job}/watches/{watch['watch_id']}").status_code == 204
        assert http.post(f"/v1/jobs/{job}:cancel").status_code in (200, 202)
        await append(redis, keys.events_stream(job), _state("CANCELLED"))
        await until(lambda: http.get(f"/v1/jobs/{job}").json()["state"], "CANCELLED")
    assert api.process.poll() is None


def alarms(http: httpx.Client) -> set[str]:
    """Those that are not over."""
    return {one["name"] for one in http.get("/v1/system").json()["alarms"]}


def _state(state: str) -> bytes:
    return encode(JobEvent(kind="state", at_unix_s=time.time(), data={"state": state}))
