"""Starts an environment service on this machine, and a small client for it."""

import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc
from pydantic import JsonValue

from services.env.edge.server import MAX_MESSAGE_BYTES, running_server
from services.env.settings import Settings, read_settings

CALL_TIMEOUT_S = 120.0
"""Longer than the service's own deadlines, so that its words arrive."""
_REFUSALS = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION)
TRIES = 10
"""Calls made for one answer that is not there yet: a first reset may read and index much."""
DRAIN_S = 0.2
"""Seconds of the service's drain; with 0 it cuts its connections, and gRPC says so on stderr beside the caller's own
error."""
OPTIONS = [(f"grpc.max_{way}_message_length", MAX_MESSAGE_BYTES) for way in ("send", "receive")]


T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """The names of one initial state."""

    environment: str
    kwargs: Mapping[str, JsonValue]
    split: str = ""
    seed: int = 0

    @property
    def kwargs_json(self) -> str:
        """The kwargs as the contract wants them."""
        return json.dumps(dict(self.kwargs))


class EnvClient:
    """The service in short. What takes long is waited for. Errors are grpc.aio.AioRpcError."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub = env_pb2_grpc.EnvironmentServiceStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
        self._keys = itertools.count(1)

    async def environments(self) -> list[env_pb2.EnvironmentInfo]:
        """The listing, in order of id."""
        request = env_pb2.ListEnvironmentsRequest()
        return list((await self.stub.ListEnvironments(request, timeout=CALL_TIMEOUT_S)).environments)

    async def open(self, task: Task, n: int) -> env_pb2.OpenGroupResponse:
        """n sessions of one task."""
        request = self._opening(task, n)
        return await _answered(lambda: self.stub.OpenGroup(request, timeout=CALL_TIMEOUT_S))

    async def rebuild(self, task: Task, actions: Sequence[str], digests: Sequence[bytes]) -> env_pb2.RebuildResponse:
        """One session where the actions lead, compared with what they showed."""
        request = env_pb2.RebuildRequest(start=self._opening(task, 1), actions=actions, digests=digests)
        return await _answered(lambda: self.stub.Rebuild(request, timeout=CALL_TIMEOUT_S))

    async def step(self, lease: str, seq: int, action: str) -> env_pb2.Outcome:
        """Apply one action."""
        request = env_pb2.StepRequest(lease=lease, seq=seq, action=action)
        return (await _answered(lambda: self.stub.Step(request, timeout=CALL_TIMEOUT_S))).outcome

    async def close(self, leases: Sequence[str]) -> None:
        """End leases."""
        await self.stub.Close(env_pb2.CloseRequest(leases=leases), timeout=CALL_TIMEOUT_S)

    def _opening(self, task: Task, n: int) -> env_pb2.OpenGroupRequest:
        return env_pb2.OpenGroupRequest(
            idempotency_key=f"tools {next(self._keys)}",
            environment=task.environment,
            kwargs_json=task.kwargs_json,
            split=task.split,
            seed=task.seed,
            n=n,
        )


async def _answered(call: Callable[[], Awaitable[T]]) -> T:
    """The answer to a call that names what it asks for, so that its repetition acts once: made again while it is told
    that the answer is not there yet."""
    for _ in range(TRIES - 1):
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
    return await call()


@contextlib.asynccontextmanager
async def local_service(**settings: object) -> AsyncIterator[EnvClient]:
    """A real service with real workers on a loopback port of this process, set as ENV_SERVICE_* and `settings` say.

    Raises:
        TimeoutError: no worker came up.
    """
    own = Settings.model_validate({**read_settings().model_dump(), "port": 0, "drain_s": DRAIN_S, **settings})
    async with running_server(own) as address, grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        yield EnvClient(channel)


def status_text(error: grpc.aio.AioRpcError) -> str:
    """The service's answer, for people: a refusal is a whole sentence, a failure needs its code beside it."""
    return str(error.details()) if error.code() in _REFUSALS else f"{error.code().name}: {error.details()}"
