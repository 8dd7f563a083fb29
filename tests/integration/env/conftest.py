"""A served environment service: real gRPC on loopback, real worker processes."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from env_caller import Caller, nothing_left, workers
from gigpo_proto.env.v1 import env_pb2_grpc

from services.env.edge.server import running_server
from services.env.settings import Settings


@pytest.fixture
def settings() -> Callable[..., Settings]:
    def make(**changed: Any) -> Settings:
        extra = {
            "faulty": "faulty_environment:Faulty",
            "overlapping": "faulty_environment:Overlapping",
            "moderate": "faulty_environment:Moderate",
            "unthreaded": "faulty_environment:Unthreaded",
        }
        base = {
            "step_timeout_s": 5.0,
            "drain_s": 0.0,
            "plugin_timeout_s": 120.0,
            "max_leases": 64,
            "extra_environments": extra,
            "worker_idle_s": 1.0,
        }
        return Settings(**{**base, **changed})

    return make


@pytest.fixture
async def served(settings: Callable[..., Settings]) -> AsyncIterator[Callable[..., Any]]:
    """Start a service with the given settings. After the test it must have room for every lease again and no process
    but its workers; stopped, it must leave none."""
    started: list[tuple[Caller, Settings]] = []
    async with contextlib.AsyncExitStack() as stack:

        async def start(**changed: Any) -> Caller:
            own = settings(**changed)
            address = await stack.enter_async_context(running_server(own))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            started.append((Caller(env_pb2_grpc.EnvironmentServiceStub(channel), address), own))
            return started[-1][0]

        yield start
        processes = sum(own.workers for _, own in started)
        for caller, own in started:
            await nothing_left(caller, max_leases=own.max_leases, processes=processes)
    assert workers() == []
