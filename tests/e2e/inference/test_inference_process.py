"""The service as a process over a real Redis and a real vLLM server, and what is left when either is killed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.arrays import unpack_int32
from services.kit.redis import connect
from tests.e2e.inference.conftest import Policies, assert_logprobs_agree, until_group_is_gone
from tests.integration.inference.conftest import Jobs, Worker, until

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio(loop_scope="module")]

REPLICA = "r1"
DRAIN_S = "2"


@dataclass
class Service:
    """The inference service, its server, and the outside world it works for."""

    process: asyncio.subprocess.Process
    redis: Redis
    jobs: Jobs
    worker: Worker

    def server_group(self) -> int | None:
        """Process group of the vLLM server, None while there is none."""
        children = psutil.Process(self.process.pid).children()
        return children[0].pid if children else None


@asynccontextmanager
async def running_service(redis_url: str, policies: Policies, vllm_python: Path) -> AsyncIterator[Service]:
    settings = {
        "INFERENCE_REDIS_URL": redis_url,
        "INFERENCE_DATA_DIR": str(policies.data_dir),
        "INFERENCE_REPLICA": REPLICA,
        "INFERENCE_VLLM_PYTHON": str(vllm_python),
        "INFERENCE_DRAIN_S": DRAIN_S,
    }
    with (policies.data_dir / "service.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.inference.main"), env={**os.environ, **settings}, stdout=log, stderr=log
        )
    async with connect(redis_url) as redis:
        yield Service(process, redis, Jobs(redis), Worker(redis))
    if process.returncode is None:
        process.kill()
    await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(redis_server: str, policies: Policies, vllm_python: Path) -> AsyncIterator[Service]:
    """One service for the module's tests, which build on each other: a server takes long to start."""
    async with running_service(redis_server, policies, vllm_python) as service:
        await service.redis.flushall()
        await service.jobs.publish(policies.version(0))
        await service.jobs.acked(REPLICA, 0)
        yield service


async def test_answers_through_redis_have_the_logprobs_of_transformers(service: Service, policies: Policies) -> None:
    await service.worker.ask(REPLICA, *(f"first:{number}:0" for number in range(64)))
    for generated in await service.worker.answered(*(f"first:{number}:0" for number in range(64))):
        assert generated.error == ""
    assert_logprobs_agree(policies, [3, 4, 5], service.worker.answers["first:0:0"][0])


async def test_a_new_version_is_acknowledged_and_served(service: Service, policies: Policies) -> None:
    await service.jobs.publish(policies.version(1))
    ack = await service.jobs.acked(REPLICA, 1)
    assert ack.engine == "vllm"
    await service.worker.ask(REPLICA, "new:0:0", min_version=1)
    (generated,) = await service.worker.answered("new:0:0")
    assert set(unpack_int32(generated.versions)) == {1}
    assert_logprobs_agree(policies, [3, 4, 5], generated)


@pytest.mark.timeout(300)
async def test_a_killed_server_is_replaced_and_what_it_owed_is_answered(service: Service, policies: Policies) -> None:
    group = service.server_group()
    assert group is not None
    items = [f"killed:{number}:0" for number in range(32)]
    await service.worker.ask(REPLICA, *items, max_tokens=100, stop_token_ids=[])
    await until(lambda: _pending(service.redis))
    os.kill(group, signal.SIGKILL)
    await until_group_is_gone(group)
    for generated in await service.worker.answered(*items):
        assert generated.error == ""
        assert len(unpack_int32(generated.response_ids)) == 100
        assert set(unpack_int32(generated.versions)) == {1}
    assert_logprobs_agree(policies, [3, 4, 5], service.worker.answers[items[0]][0])
    assert all(len(answers) == 1 for answers in service.worker.answers.values())


async def test_a_killed_service_leaves_no_server(service: Service) -> None:
    group = service.server_group()
    assert group is not None
    service.process.kill()
    await service.process.wait()
    await until_group_is_gone(group)


@pytest.mark.timeout(300)
async def test_sigterm_while_the_server_starts_ends_both(
    redis_server: str, policies: Policies, vllm_python: Path
) -> None:
    async with running_service(redis_server, policies, vllm_python) as service:
        await service.jobs.publish(policies.version(0))
        await until(lambda: _as_async(service.server_group()))
        group = service.server_group()
        assert group is not None
        service.process.terminate()
        assert await service.process.wait() == 0
        await until_group_is_gone(group)
        assert await service.redis.exists(keys.replica_heartbeat(REPLICA)) == 0


async def _pending(redis: Redis) -> object:
    return (await redis.xpending(keys.requests_stream(REPLICA), "inference"))["pending"] or None


async def _as_async(value: object) -> object:
    return value
