"""Parts that the tests of the environment service share: a short client, and a look at the worker processes."""

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from gigpo_proto.env.v1 import env_pb2

HANGS_S = 300.0
"""Only what hangs takes so long."""
NOT_YET = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass
class Caller:
    """A client of the service, in short."""

    stub: Any
    address: str
    keys: "itertools.count[int]" = field(default_factory=itertools.count)
    leases: list[str] = field(default_factory=list)
    """Every one that it was given."""

    async def group(self, environment: str, *, n: int = 1, key: str = "", **spec: Any) -> env_pb2.OpenGroupResponse:
        key = key or f"key {next(self.keys)}"
        request = env_pb2.OpenGroupRequest(idempotency_key=key, environment=environment, n=n, **spec)
        opened = await self.stub.OpenGroup(request)
        self.leases += opened.leases
        return opened

    async def open(self, environment: str = "faulty", *, n: int = 1, **spec: Any) -> list[str]:
        return list((await self.group(environment, n=n, **spec)).leases)

    async def step(self, lease: str, seq: int, action: str = "") -> env_pb2.Outcome:
        return (await self.stub.Step(env_pb2.StepRequest(lease=lease, seq=seq, action=action))).outcome

    async def batch(self, *steps: tuple[str, int, str]) -> list[env_pb2.StepResult]:
        requests = [env_pb2.StepRequest(lease=lease, seq=seq, action=action) for lease, seq, action in steps]
        return list((await self.stub.StepBatch(env_pb2.StepBatchRequest(steps=requests))).results)


async def nothing_left(caller: Caller, *, max_leases: int, processes: int) -> None:
    """Wait until the service holds no lease and no process but its workers: room for every lease, and who runs.

    The caller's leases are closed first; those of clients that went away must end by themselves.
    """
    await caller.stub.Close(env_pb2.CloseRequest(leases=caller.leases))
    await caller.stub.Close(env_pb2.CloseRequest(leases=await room_for(caller, max_leases)))
    until = time.monotonic() + HANGS_S  # anew: where workers are recycled, opening has started many
    while len(found := family()) != processes:
        assert time.monotonic() < until, f"want {processes} processes, got {found}"
        await asyncio.sleep(0.05)


async def room_for(caller: Caller, n: int) -> list[str]:
    """Leases of n sessions, opened once so many fit.

    An open that is not done in time is repeated under its key: where workers are recycled it starts many of them.
    """
    key, until = f"room {next(caller.keys)}", time.monotonic() + HANGS_S
    while True:
        try:
            return await caller.open("grid", n=n, key=key)
        except grpc.aio.AioRpcError as error:
            if error.code() not in NOT_YET or time.monotonic() > until:
                raise
            await asyncio.sleep(0.1)


async def reached(path: Path) -> None:
    """Wait until an environment has made this file."""
    while not path.exists():
        await asyncio.sleep(0.01)


def family() -> list[psutil.Process]:
    """Every process that this test's workers are, or started."""
    return [each for worker in workers() for each in (worker, *_children(worker))]


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def workers() -> list[psutil.Process]:
    """The worker processes of this test that live."""
    return [child for child in psutil.Process().children() if "services.env.workers.worker" in words(child)]


def words(process: psutil.Process) -> list[str]:
    """Words of its command line; none: it ended while it was looked at."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return list(process.cmdline())
    return []
