"""A served environment service: real gRPC on loopback, real worker processes."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from env_caller import Caller, workers
from gigpo.env.v1 import env_pb2_grpc

from services.env.server import running_server
from services.env.settings import Settings


@pytest.fixture
def settings() -> Callable[..., Settings]:
    def make(**changed: Any) -> Settings:
        extra = {"faulty": "faulty_environment:Faulty"}
        base = {"step_timeout_s": 5.0, "drain_s": 0.0, "extra_environments": extra}
        return Settings(**{**base, **changed})

    return make


@pytest.fixture
async def served(settings: Callable[..., Settings]) -> AsyncIterator[Callable[..., Any]]:
    """Start a service with the given settings; it is stopped with the test, and must leave no process."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**changed: Any) -> Caller:
            address = await stack.enter_async_context(running_server(settings(**changed)))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            return Caller(env_pb2_grpc.EnvironmentServiceStub(channel), address)

        yield start
    assert workers() == []
