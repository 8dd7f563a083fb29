"""A worker that knows many environment services asks a few at a time, and those that it uses always."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import grpc
import pytest
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

from services.rollout.instances import ASKED_AT_ONCE, Instances

COUNT = 2 * ASKED_AT_ONCE + 10


class Service(env_pb2_grpc.EnvironmentServiceServicer):
    """Many services in one: a port each."""

    def __init__(self) -> None:
        self.asked = 0

    async def GetInstance(self, request, context):
        self.asked += 1
        return env_pb2.GetInstanceResponse(instance="one", leases=0, max_leases=8)


@pytest.fixture
async def many() -> AsyncIterator[tuple[Service, str]]:
    """The services, and their addresses with commas between them."""
    service, server = Service(), grpc.aio.server()
    env_pb2_grpc.add_EnvironmentServiceServicer_to_server(service, server)
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(COUNT)]
    await server.start()
    yield service, ",".join(f"127.0.0.1:{port}" for port in ports)
    await server.stop(0)


async def looked(instances: Instances) -> set[str]:
    """Look once, wait for the answers; the addresses that have answered so far."""
    await instances.look()
    await asyncio.gather(*(one.asking for one in instances._known.values() if one.asking is not None))
    return {str(one["address"]) for one in instances.seen() if one["reachable"]}


async def test_each_look_asks_a_few_and_all_get_their_turn(many: tuple[Service, str]) -> None:
    service, addresses = many
    instances = Instances(addresses)
    counts = [len(await looked(instances)) for _ in range(3)]
    assert counts == [ASKED_AT_ONCE, 2 * ASKED_AT_ONCE, COUNT]
    assert service.asked == 3 * ASKED_AT_ONCE


async def test_each_look_asks_those_in_use(many: tuple[Service, str]) -> None:
    service, addresses = many
    instances = Instances(addresses)
    await looked(instances)
    used = instances.best()
    assert used is not None
    instances.in_use = lambda: {used}
    before, times = service.asked, Counter[int]()
    for _ in range(3):
        await looked(instances)
        times[used.asked_at_look] += 1
    assert len(times) == 3
    assert service.asked == before + 3 * (ASKED_AT_ONCE + 1)
