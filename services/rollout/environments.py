"""The environment service over gRPC: one channel, concurrent steps in one StepBatch, leases renewed and closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast

import grpc
import structlog
from gigpo_proto.env.v1 import env_pb2, env_pb2_grpc

from services.contracts.faults import FaultClass
from services.contracts.observation import KeyedObservation
from services.kit.tasks import beside
from services.rollout.coalescer import Coalescer
from services.rollout.errors import EnvironmentFault
from services.rollout.limits import EnvironmentLimits
from services.rollout.ports import OpenedSessions, Opening, Outcome
from services.rollout.translation import observation_of, open_request, outcome_of

log = structlog.get_logger("rollout")

UNAVAILABLE, DEADLINE, NO_ROOM = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
REPEATABLE = {UNAVAILABLE, DEADLINE, NO_ROOM}
"""Statuses after which the same call, with the same key or seq, may be made again."""
NAMES = {status.value[0]: status for status in grpc.StatusCode}
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
RELEASE_TIMEOUT_S = 5.0
OPTIONS = [
    ("grpc.max_receive_message_length", 64 * 2**20),  # as the service's own limit
    ("grpc.max_send_message_length", 64 * 2**20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),  # a restarted service is found again within two seconds
    ("grpc.keepalive_time_ms", 30_000),
]


Tell = Callable[[str, str], Awaitable[None]]
"""Takes a job's id and a cause."""


@dataclass(eq=False)
class _AskedStep:
    request: env_pb2.StepRequest
    answer: asyncio.Future[env_pb2.StepResult]


class _Wait:
    """How long one call is asked again and again."""

    def __init__(self, limit_s: float) -> None:
        self._began, self._limit_s, self.told = time.monotonic(), limit_s, False

    @property
    def waited_s(self) -> float:
        return time.monotonic() - self._began

    def would_end(self, pause_s: float) -> bool:
        """Whether the limit is reached after a pause."""
        return self.waited_s + pause_s > self._limit_s


async def _nobody(_job_id: str, _cause: str) -> None:
    """Nobody is told."""


class GrpcEnvironments:
    """Port `Environments` on the real service. Make it with `connected_environments`."""

    def __init__(self, channel: grpc.aio.Channel, limits: EnvironmentLimits, tell: Tell = _nobody) -> None:
        self._stub = env_pb2_grpc.EnvironmentServiceStub(channel)
        self._limits, self._tell = limits, tell
        self._steps = Coalescer(self._send_steps, max_size=limits.max_batch, delay_s=limits.coalesce_s)
        self._releases = Coalescer(self._send_release, max_size=4096, delay_s=0.01)
        self._light: dict[str, bool] = {}
        self._live: dict[str, bool] = {}
        """Lease -> its steps are light, so they may wait for each other in one message."""
        self._owners: dict[str, str] = {}
        """Lease -> the job that it was opened for."""
        self._opening: set[asyncio.Task[OpenedSessions]] = set()
        self._ttl_s = 3.0  # until the service says its own

    async def open(self, opening: Opening) -> OpenedSessions:
        """Open n sessions; waits for room and for a service that restarts. Raises EnvironmentFault."""
        task = asyncio.create_task(self._open(opening))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._release_unwanted)
            raise

    async def step(self, lease: str, seq: int, action: str, response_tokens: int = 0) -> Outcome:
        """Apply one action, asking again under the same seq as long as time is left. See the port for errors."""
        loop = asyncio.get_running_loop()
        wait, pause = _Wait(self._limits.step_timeout_s), FIRST_PAUSE_S
        request = env_pb2.StepRequest(lease=lease, seq=seq, action=action, response_tokens=response_tokens)
        while True:
            asked = _AskedStep(request, loop.create_future())
            alone = not self._live.get(lease, True)
            self._steps.add(lease if alone else "", asked)
            result = await asked.answer
            if result.HasField("outcome"):
                return outcome_of(result.outcome)
            refusal = result.refusal
            status = NAMES.get(refusal.code, grpc.StatusCode.UNKNOWN)
            pause = max(pause, refusal.retry_after_ms / 1000)
            cause = f"step {seq}: {status.name}: {refusal.message}"
            if status not in REPEATABLE or wait.would_end(pause):
                raise EnvironmentFault(FaultClass.INFRA, cause)
            await self._tell_wait(self._owners.get(lease, ""), wait, status, cause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def release(self, leases: Sequence[str]) -> None:
        """End leases, soon; one that cannot be ended ends by its time to live."""
        for lease in leases:
            self._live.pop(lease, None)
            self._owners.pop(lease, None)
            self._releases.add("", lease)

    async def keep_alive(self) -> None:
        """Renew every live lease, for ever: an episode may wait for inference longer than a lease lives."""
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            leases = list(self._live)
            if leases:
                with suppress(grpc.aio.AioRpcError):  # the next step or renewal finds out
                    await self._stub.Renew(env_pb2.RenewRequest(leases=leases), timeout=RELEASE_TIMEOUT_S)

    async def drain(self) -> None:
        """Let every lease go and wait until that is sent."""
        await asyncio.gather(*self._opening, return_exceptions=True)
        self.release(list(self._live))
        await self._releases.drain()

    async def _open(self, opening: Opening) -> OpenedSessions:
        wait, pause = _Wait(self._limits.open_timeout_s), FIRST_PAUSE_S
        request = open_request(opening)
        while True:
            try:
                light = await self._is_light(opening.environment)
                opened = await self._stub.OpenGroup(request, timeout=self._limits.call_timeout_s)
            except grpc.aio.AioRpcError as error:
                pause, cause = max(pause, _retry_after_s(error)), f"open: {error.code().name}: {error.details()}"
                if error.code() not in REPEATABLE or wait.would_end(pause):
                    fault = FaultClass.ENV_BUG if error.code() is grpc.StatusCode.INTERNAL else FaultClass.INFRA
                    raise EnvironmentFault(fault, cause) from error
                await self._tell_wait(opening.job_id, wait, error.code(), cause)
            else:
                self._ttl_s = opened.ttl_s
                self._live.update(dict.fromkeys(opened.leases, light))
                self._owners.update(dict.fromkeys(opened.leases, opening.job_id))
                return OpenedSessions(list(opened.leases), self._first(opened, opening))
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _tell_wait(self, job_id: str, wait: _Wait, status: grpc.StatusCode, cause: str) -> None:
        """Tell the job's owner, once for each wait that takes long."""
        after_s = self._limits.tell_room_after_s if status is NO_ROOM else self._limits.tell_after_s
        if job_id and not wait.told and wait.waited_s >= after_s:
            wait.told = True
            await self._tell(job_id, f"a request to the environment is retried: {cause}")

    def _first(self, opened: env_pb2.OpenGroupResponse, opening: Opening) -> KeyedObservation:
        if len(opened.leases) != opening.n:
            self.release(list(opened.leases))
            raise EnvironmentFault(FaultClass.INFRA, f"open: want {opening.n} leases, got {len(opened.leases)}")
        return observation_of(opened.observation)

    async def _is_light(self, environment: str) -> bool:
        """A batch is as slow as its slowest step: only steps that take less than a millisecond travel together."""
        if environment not in self._light:
            listing = await self._stub.ListEnvironments(
                env_pb2.ListEnvironmentsRequest(), timeout=self._limits.call_timeout_s
            )
            light = env_pb2.COST_CLASS_LIGHT
            self._light = {known.id: known.capabilities.cost_class == light for known in listing.environments}
        return self._light.setdefault(environment, False)

    async def _send_steps(self, _: str, asked: list[_AskedStep]) -> None:
        request = env_pb2.StepBatchRequest(steps=[question.request for question in asked])
        try:
            response = await self._stub.StepBatch(request, timeout=self._limits.call_timeout_s)
            results: Sequence[env_pb2.StepResult] = response.results
        except grpc.aio.AioRpcError as error:
            results = [_refused(error)] * len(asked)
        if len(results) != len(asked):
            short = f"want {len(asked)} results, got {len(results)}"
            results = [_refusal(grpc.StatusCode.DATA_LOSS, short)] * len(asked)
        for question, result in zip(asked, results, strict=True):
            if not question.answer.done():  # its episode may have been cancelled meanwhile
                question.answer.set_result(result)

    async def _send_release(self, _: str, leases: list[str]) -> None:
        try:
            await self._stub.Close(env_pb2.CloseRequest(leases=leases), timeout=RELEASE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            log.warning("leases were not closed, they will expire", leases=len(leases), error=error.code().name)

    def _release_unwanted(self, task: asyncio.Task[OpenedSessions]) -> None:
        if not task.cancelled() and task.exception() is None:
            self.release(task.result().leases)


@asynccontextmanager
async def connected_environments(
    address: str, limits: EnvironmentLimits, tell: Tell = _nobody
) -> AsyncIterator[GrpcEnvironments]:
    """A client of the service at host:port, which need not be up yet; every lease is let go at the end.

    Args:
        tell: takes a job and why its calls are asked again and again.
    """
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        environments = GrpcEnvironments(channel, limits, tell)
        try:
            async with beside(environments.keep_alive):
                yield environments
        finally:
            await environments.drain()


def _refusal(status: grpc.StatusCode, message: str) -> env_pb2.StepResult:
    return env_pb2.StepResult(refusal=env_pb2.Refusal(code=status.value[0], message=message))


def _refused(error: grpc.aio.AioRpcError) -> env_pb2.StepResult:
    return _refusal(error.code(), error.details() or "the call failed")


def _retry_after_s(error: grpc.aio.AioRpcError) -> float:
    trailing = dict(cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ()))
    return int(trailing.get("retry-after-ms", 0)) / 1000
