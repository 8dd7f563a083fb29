"""The API is killed while clients submit: nothing that was acknowledged is lost, and nothing comes twice."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.integration.api.api_process import ApiProcess, running_api

CLIENTS, ENOUGH = 8, 60
GIVE_UP_S = 60.0


def spec(name: str) -> dict[str, Any]:
    return {"name": name, "model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}


def submit_until_it_dies(api: ApiProcess, client: int, acknowledged: dict[str, str], tried: set[str]) -> None:
    """One client; what it was answered is in `acknowledged`, also while others still submit."""
    with httpx.Client(base_url=api.url, timeout=30) as http:
        for number in range(10_000):
            name = f"c{client}-{number}"
            tried.add(name)
            try:
                answer = http.post("/v1/jobs", json=spec(name), headers={"Idempotency-Key": name})
            except httpx.TransportError:
                return
            assert answer.status_code == 201, answer.text
            acknowledged[name] = answer.json()["id"]


def test_a_kill_while_many_submit_loses_nothing_that_was_acknowledged(
    redis_url: str, env_address: str, tmp_path: Path, database_url: str
) -> None:
    acknowledged: dict[str, str] = {}
    tried: set[str] = set()
    with (
        running_api(tmp_path, redis_url, env_address, API_DATABASE_URL=database_url) as first,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        clients = [pool.submit(submit_until_it_dies, first, number, acknowledged, tried) for number in range(CLIENTS)]
        deadline = time.monotonic() + GIVE_UP_S
        while len(acknowledged) < ENOUGH and time.monotonic() < deadline:
            time.sleep(0.01)
        first.process.kill()
        first.process.wait()
        for client in clients:
            client.result(timeout=GIVE_UP_S)
    assert len(acknowledged) >= ENOUGH
    with (
        running_api(tmp_path, redis_url, env_address, API_DATABASE_URL=database_url) as second,
        httpx.Client(base_url=second.url, timeout=30) as http,
    ):
        for name, job in acknowledged.items():
            assert http.get(f"/v1/jobs/{job}").json()["name"] == name
        ids = {}
        for name in tried:  # what a client does that does not know whether it was heard
            answer = http.post("/v1/jobs", json=spec(name), headers={"Idempotency-Key": name})
            assert answer.status_code == (200 if name in acknowledged else answer.status_code) in (200, 201)
            ids[name] = answer.json()["id"]
        assert ids.items() >= acknowledged.items()
        other = http.post("/v1/jobs", json=spec("other"), headers={"Idempotency-Key": min(tried)})
        assert other.status_code == 409
        deadline = time.monotonic() + GIVE_UP_S
        while set(second.queued_jobs()) != set(ids.values()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert set(second.queued_jobs()) == set(ids.values())
        assert len(ids) == len(set(ids.values())) == len(tried)
