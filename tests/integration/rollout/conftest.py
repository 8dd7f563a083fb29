"""The real things around a player: environment service, ledger in Redis, inference through Redis."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc
from redis.asyncio import Redis

from services.contracts.environment import EnvironmentInfo
from services.contracts.messages import Episode, OpenedGroup, decode
from services.env.environments.grid import Grid
from services.kit.tasks import ended
from services.ledger import GroupState, Ledger
from services.rollout.environments import GrpcEnvironments, connected_environments
from services.rollout.inference import connected_inference
from services.rollout.instances import connected_instances
from services.rollout.limits import EnvironmentLimits, InferenceLimits
from services.rollout.playbook import make_playbook
from services.rollout.player import Player
from services.rollout.ports import OpenedSessions, Opening
from tests.integration.rollout.fake_replica import FakeReplica
from tests.unit.rollout.policy_folder import word_tokens
from tests.unit.rollout.stages import REPLIES, Stage, encoded_replies, spec_of

WORDS = [*Grid.vocabulary(), "act", "at", "on", "plus", *map(str, range(10))]


@pytest.fixture(scope="session")
def env_address() -> Iterator[str]:
    """host:port of an environment service, a process that lives as long as the test run."""
    with env_process() as address:
        yield address


@contextmanager
def env_process(**settings: str) -> Iterator[str]:
    """host:port of an environment service of its own; it must drain and end well."""
    extra = {"troubled": "tests.integration.rollout.troubled_environment:Troubled"}
    environment = process_environment(
        ENV_SERVICE_EXTRA_ENVIRONMENTS=json.dumps(extra),
        ENV_SERVICE_STEP_TIMEOUT_S="10",
        ENV_SERVICE_DRAIN_S="0",
        **settings,
    )
    command = [sys.executable, "-m", "services.env.main"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        yield json.loads(service.stdout.readline())["address"]
        service.send_signal(signal.SIGTERM)
        assert service.wait(20) == 0


def process_environment(**settings: str) -> dict[str, str]:
    root = Path(__file__).parents[3]
    return {**os.environ, "PYTHONPATH": f"{root}:{root / 'proto'}", **settings}


class WatchedEnvironments(GrpcEnvironments):
    """Remembers every lease it was given."""

    leases: list[str]

    async def open(self, opening: Opening) -> OpenedSessions:
        opened = await super().open(opening)
        self.leases = [*getattr(self, "leases", []), *opened.leases]
        return opened


async def live_leases(address: str, leases: list[str]) -> int:
    """How many of the leases live, once those that are being let go are gone."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = env_pb2_grpc.EnvironmentServiceStub(channel)
        live = len(leases)
        for _ in range(50):
            renewed = await stub.Renew(env_pb2.RenewRequest(leases=leases))
            live = len(leases) - len(renewed.unknown)
            if live == 0:
                break
            await asyncio.sleep(0.02)
        return live


@pytest.fixture
async def stages(redis: Redis, env_address: str, tmp_path: Path) -> AsyncIterator[Callable[..., Stage]]:
    """Makes stages on the real things, each a job of its own with a replica of its own."""
    folders = itertools.count()
    async with AsyncExitStack() as stack:
        instances = await stack.enter_async_context(connected_instances(env_address))
        inference = await stack.enter_async_context(
            connected_inference(redis, "w1", InferenceLimits(replica_poll_s=0.02, replica_wait_s=10))
        )

        def stage(job_id: str = "job_1", rewards: dict[str, Any] | None = None, **environment: Any) -> Stage:
            environments = WatchedEnvironments(instances, EnvironmentLimits())
            spec = spec_of({"environment": "grid", **environment}, rewards)
            info = EnvironmentInfo(
                id=spec.environment.environment,
                kwargs_schema={"properties": {"max_turns": {}, "rewards": {}}},
                prompt_template="prompts/v1" if rewards else "grid/v1",
            )
            playbook = make_playbook(job_id, spec, info, word_tokens(tmp_path / str(next(folders)), WORDS))
            replica = FakeReplica(redis, job_id, encoded_replies(playbook, REPLIES), name=f"replica_{job_id}")
            running = asyncio.create_task(replica.run())
            stack.push_async_callback(ended, [running])
            ledger = Ledger(redis, job_id)
            player = Player(playbook, ledger, environments, inference, f"worker_{uuid.uuid4().hex[:8]}")

            async def open_(group: OpenedGroup) -> None:
                assert await ledger.open(await ledger.claim_epoch(), group, 3) is GroupState.OPEN

            async def state(group_id: str) -> GroupState:
                record = await ledger.record_of(group_id)
                assert record is not None
                return record.state

            async def episodes(group_id: str) -> list[Episode]:
                return [decode(payload, Episode) for payload in await ledger.episodes_of(group_id)]

            async def live() -> int:
                return await live_leases(env_address, getattr(environments, "leases", []))

            return Stage(job_id, player, playbook, ledger, open_, state, episodes, live, replica.sampled)

        yield stage


@pytest.fixture
async def environments(env_address: str) -> AsyncIterator[GrpcEnvironments]:
    """A client of the real environment service."""
    async with connected_environments(env_address, EnvironmentLimits()) as client:
        yield client
