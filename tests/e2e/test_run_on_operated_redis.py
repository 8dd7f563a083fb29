"""A small job on the whole stack, with a Redis user for each service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from services.contracts.redis_users import KEYS, acl_line
from services.stack.child import ServicePlan
from services.stack.plan import stack_stages
from services.stack.settings import Settings
from services.stack.supervisor import Supervisor
from tests.redis_servers import answers, server, wait_until

ADMIN, USER = "of-the-operator", "of-a-service"
SPEC: dict[str, Any] = {
    "name": "operated",
    "model": {"scratch": {}, "warmstart": None},
    "environment": {"environment": "grid", "environment_kwargs": {"goal": "corner", "size": [3], "walls": [0]},
                    "max_turns": 4},
    "rollout": {"groups_per_batch": 2, "num_generations": 2, "max_completion_length": 6},
    "training": {"total_batches": 2},
    "evaluation": {"eval_episodes": 2},
    "inference": {"engine": "transformers"},
}  # fmt: skip
HANGS_S = 500
Url = Callable[[str], str]
"""Service -> its address of Redis."""


@asynccontextmanager
async def stack(folder: Path, url: Url) -> AsyncIterator[str]:
    """The API's address of a stack on a Redis that is there."""
    settings = Settings(data_dir=folder, api_port=0, redis_url=url("api"), drain_s=0.5)
    stages = stack_stages(settings, None, "of each service")
    supervisor = Supervisor([[_of_service(plan, url) for plan in stage] for stage in stages], folder / "logs", print)
    try:
        await supervisor.start()
        yield supervisor.addresses["api"]
    finally:
        await supervisor.stop(asyncio.Event())


def _of_service(plan: ServicePlan, url: Url) -> ServicePlan:
    def variables(addresses: Any) -> dict[str, str]:
        given = plan.variables(addresses)
        return {name: url(plan.name) if name.endswith("_REDIS_URL") else value for name, value in given.items()}

    return replace(plan, variables=variables)


async def trained(api: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=api, timeout=60) as http:
        answer = await http.post("/v1/jobs", json=SPEC)
        assert answer.is_success, answer.text
        path = f"/v1/jobs/{answer.json()['id']}"
        async with asyncio.timeout(HANGS_S):
            while (job := (await http.get(path)).json())["state"] not in ("SUCCEEDED", "FAILED", "CANCELLED"):
                await asyncio.sleep(0.5)
        system = (await http.get("/v1/system")).raise_for_status().json()
        assert {one["service"] for one in system["services"]} == {"rollout", "inference", "advantage", "trainer"}
        return dict(job)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[int]:
    """Port of a server where each service is a user of its own."""
    lines = [f"requirepass {ADMIN}", *(acl_line(service, f"{USER}-{service}") for service in KEYS)]
    with server(tmp_path / "redis", *lines, 'save ""') as one:
        wait_until(lambda: answers(one.port, password=ADMIN))
        yield one.port


async def test_a_job_is_trained_where_each_service_may_use_its_own_keys_alone(tmp_path, guarded):
    def url(service: str) -> str:
        return f"redis://{service}:{USER}-{service}@127.0.0.1:{guarded}/0"

    async with stack(tmp_path / "data", url) as api:
        assert (await trained(api))["state"] == "SUCCEEDED"
    with Redis(port=guarded, password=ADMIN, decode_responses=True) as admin:
        assert admin.execute_command("ACL", "LOG") == [], "a service was refused something"
