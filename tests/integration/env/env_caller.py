"""What the tests of the environment service share: a client in short, and a look at the worker processes."""

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import Any

import psutil
from gigpo.env.v1 import env_pb2


@dataclass
class Caller:
    """What a client of the service does, in short."""

    stub: Any
    address: str
    keys: "itertools.count[int]" = field(default_factory=itertools.count)

    async def open(self, environment: str = "faulty", *, n: int = 1, key: str = "", **spec: Any) -> list[str]:
        request = env_pb2.OpenGroupRequest(
            idempotency_key=key or f"key {next(self.keys)}", environment=environment, n=n, **spec
        )
        return list((await self.stub.OpenGroup(request)).leases)

    async def step(self, lease: str, seq: int, action: str = "") -> env_pb2.Outcome:
        return (await self.stub.Step(env_pb2.StepRequest(lease=lease, seq=seq, action=action))).outcome

    async def batch(self, *steps: tuple[str, int, str]) -> list[env_pb2.StepResult]:
        requests = [env_pb2.StepRequest(lease=lease, seq=seq, action=action) for lease, seq, action in steps]
        return list((await self.stub.StepBatch(env_pb2.StepBatchRequest(steps=requests))).results)


def workers() -> list[psutil.Process]:
    """The worker processes of this test that live."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end while it is looked at
            if "services.env.worker" in " ".join(child.cmdline()):
                found.append(child)
    return found
