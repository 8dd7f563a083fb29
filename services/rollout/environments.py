"""Environment services over gRPC: sessions on the instance with most room, made again elsewhere when theirs is lost.

Concurrent steps on one instance travel in one StepBatch. Leases are renewed and closed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar, cast

import grpc
import structlog
from gigpo_proto.env.v1 import env_pb2

from services.contracts.faults import FaultClass
from services.contracts.observation import KeyedOutcome
from services.kit.tasks import beside
from services.rollout.coalescer import Coalescer
from services.rollout.errors import EnvironmentFault
from services.rollout.instances import Instance, Instances, connected_instances
from services.rollout.limits import EnvironmentLimits
from services.rollout.patience import Patience
from services.rollout.ports import OpenedSessions, Opening
from services.rollout.sessions import LiveSession
from services.rollout.translation import observation_of, open_request, outcome_of

log = structlog.get_logger("rollout")

UNAVAILABLE, DEADLINE, NO_ROOM, NOT_FOUND = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
)
REPEATABLE = {UNAVAILABLE, DEADLINE, NO_ROOM}
"""Statuses after which the same call, with the same key or seq, may be made again."""
CUT_SHORT = {grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
"""Status codes, beside UNAVAILABLE, of a whole call whose server goes away: no step is answered like this."""
NAMES = {status.value[0]: status for status in grpc.StatusCode}
FIRST_PAUSE_S = 0.05
RELEASE_TIMEOUT_S = 5.0
HAND_OVER_S = 2.0
"""How long a session that still has a home looks for a better one, before each of its steps."""
MAX_MOVES = 8
"""Times that a session is made again for one step: where more are lost on it, it is likely the cause."""

T = TypeVar("T")
Tell = Callable[[str, str], Awaitable[None]]
"""Takes a job's id and a cause."""


@dataclass(eq=False)
class _AskedStep:
    request: env_pb2.StepRequest
    answer: asyncio.Future[env_pb2.StepResult]


async def _nobody(_job_id: str, _cause: str) -> None:
    """Nobody is told."""


class GrpcEnvironments:
    """Port `Environments` on the real services. Make it with `connected_environments`."""

    def __init__(self, instances: Instances, limits: EnvironmentLimits, tell: Tell = _nobody) -> None:
        self._instances, self._limits, self._tell = instances, limits, tell
        self._steps = Coalescer(self._send_steps, max_size=limits.max_batch, delay_s=limits.coalesce_s)
        self._releases = Coalescer(self._send_release, max_size=4096, delay_s=0.01)
        self._light: dict[str, bool] = {}
        self._live: dict[str, LiveSession] = {}
        """Sessions by the lease that each began with."""
        self._instances.in_use = lambda: {session.instance for session in self._live.values()}
        self._opening: set[asyncio.Task[OpenedSessions] | asyncio.Task[None]] = set()
        self._ttl_s = 3.0  # holds until a service says its own

    async def open(self, opening: Opening) -> OpenedSessions:
        """Open n sessions; waits for room and for a service that restarts. Raises EnvironmentFault."""
        task = self._to_its_end(self._open(opening))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._release_unwanted)
            raise

    async def step(self, lease: str, seq: int, action: str, response_tokens: int = 0) -> KeyedOutcome:
        """Apply one action, asking again under the same seq as long as time is left. A session whose service is lost
        or drains is made again on another one, where its environment can be replayed. See the port for errors."""
        session = self._live.get(lease)
        if session is None:
            raise EnvironmentFault(FaultClass.INFRA, f"step {seq}: NOT_FOUND: lease {lease!r} is not held here")
        limit_s = self._limits.step_timeout_s + session.longest_call_s
        patience, told = Patience(limit_s, FIRST_PAUSE_S), False
        while True:
            await self._hand_over(session)
            result = await self._ask(session, seq, action, response_tokens)
            if result.HasField("outcome"):
                outcome = outcome_of(result.outcome)
                session.took(action, response_tokens, outcome.observation.digest)
                return outcome
            refusal = result.refusal
            status = NAMES.get(refusal.code, grpc.StatusCode.UNKNOWN)
            cause = f"step {seq}: {status.name}: {refusal.message}"
            if status is NOT_FOUND or (status in REPEATABLE and self._instances.is_lost(session.instance)):
                await self._move(session, cause, self._limits.open_timeout_s)
                patience.begin()
                continue
            if status not in REPEATABLE or patience.is_over(refusal.retry_after_ms / 1000):
                raise EnvironmentFault(FaultClass.INFRA, cause, lost=status in REPEATABLE)
            told = told or await self._told(session.opening.job_id, patience, status, cause)
            await patience.pause()

    def release(self, leases: Sequence[str]) -> None:
        """End leases, soon; one that cannot be ended ends by its time to live."""
        for lease in leases:
            if (session := self._live.pop(lease, None)) is not None:
                self._releases.add(session.instance, session.lease)

    def services(self) -> list[dict[str, object]]:
        """The table of environment services."""
        return self._instances.seen()

    async def keep_alive(self) -> None:
        """Renew every live lease, for ever: an episode may wait for inference longer than a lease lives."""
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            leases: dict[Instance, list[str]] = defaultdict(list)
            for session in self._live.values():
                leases[session.instance].append(session.lease)
            await asyncio.gather(*(self._renew(instance, live) for instance, live in leases.items()))

    async def drain(self) -> None:
        """Let every lease go and wait until that is sent."""
        await asyncio.gather(*self._opening, return_exceptions=True)
        self.release(list(self._live))
        await self._releases.drain()

    async def _open(self, opening: Opening) -> OpenedSessions:
        request = open_request(opening)

        async def call(instance: Instance) -> tuple[bool, env_pb2.OpenGroupResponse]:
            light = await self._is_light(instance, opening.environment)
            return light, await instance.stub.OpenGroup(request, timeout=self._limits.call_timeout_s)

        (light, opened), instance = await self._somewhere(call, "open", opening, self._limits.open_timeout_s)
        leases = list(opened.leases)
        digest = opened.observation.digest
        for lease in leases:
            self._live[lease] = LiveSession(opening, lease, instance, lease, light, [digest], opened.longest_call_s)
        self._ttl_s = opened.ttl_s
        instance.leases += opening.n  # holds until it says so itself
        if len(leases) != opening.n:
            self.release(leases)
            raise EnvironmentFault(FaultClass.INFRA, f"open: want {opening.n} leases, got {len(leases)}")
        return OpenedSessions(leases, observation_of(opened.observation), opened.tools_json)

    async def _hand_over(self, session: LiveSession) -> None:
        """Leave an instance that drains, where another one takes the session; otherwise stay as long as it may."""
        if not session.instance.draining or session.stays or not self._instances.has_other(session.instance):
            return
        with suppress(EnvironmentFault):
            await self._move(session, "its environment service drains", HAND_OVER_S)

    async def _move(self, session: LiveSession, why: str, limit_s: float) -> None:
        """Make a session again, on another instance where there is one. Raises EnvironmentFault."""
        session.moves += 1
        if session.moves > MAX_MOVES:
            raise EnvironmentFault(FaultClass.INFRA, f"{why}; it was made again {MAX_MOVES} times in vain")
        await asyncio.shield(self._to_its_end(self._rebuild(session, why, limit_s)))

    async def _rebuild(self, session: LiveSession, why: str, limit_s: float) -> None:
        request = session.rebuild_request()

        async def call(instance: Instance) -> env_pb2.RebuildResponse:
            return await instance.stub.Rebuild(request, timeout=self._limits.call_timeout_s)

        before, lease = session.instance, session.lease
        rebuilt, instance = await self._somewhere(call, f"{why}; rebuild", session.opening, limit_s, session)
        session.instance, session.lease = instance, rebuilt.leases[0]
        if before.reachable:
            self._releases.add(before, lease)
        if self._live.get(session.handle) is not session:  # let go meanwhile
            self._releases.add(instance, session.lease)
        log.info("a session was made again", environment=session.opening.environment, why=why, at=instance.address)

    async def _somewhere(
        self,
        call: Callable[[Instance], Awaitable[T]],
        what: str,
        opening: Opening,
        limit_s: float,
        session: LiveSession | None = None,
    ) -> tuple[T, Instance]:
        """Make sessions where most room is, elsewhere while that fails. Raises EnvironmentFault.

        Args:
            limit_s: how long this may be tried.
            session: the one that is made again; None: a group is opened.
        """
        patience, told = Patience(limit_s, FIRST_PAUSE_S), False
        instance = self._instances.best(avoid=session.instance if session else None)
        while True:
            status, said, after_s = UNAVAILABLE, f"no service is known at {self._instances.addresses}", 0.0
            try:
                if instance is not None:
                    return await call(instance), instance
            except grpc.aio.AioRpcError as error:
                status, said, after_s = error.code(), error.details() or "", _retry_after_s(error)
            cause = f"{what}: {status.name}: {said}"
            if session is not None and status is grpc.StatusCode.FAILED_PRECONDITION:
                session.stays = True
                raise EnvironmentFault(FaultClass.INFRA, cause, lost=True)
            if status not in REPEATABLE or patience.is_over(after_s):
                fault = FaultClass.ENV_BUG if status is grpc.StatusCode.INTERNAL else FaultClass.INFRA
                raise EnvironmentFault(fault, cause, lost=status in REPEATABLE)
            told = told or await self._told(opening.job_id, patience, status, cause)
            await patience.pause()
            if status is not DEADLINE or instance is None or not instance.usable:  # it is at work on a late one
                instance = self._instances.best(avoid=instance)

    async def _told(self, job_id: str, patience: Patience, status: grpc.StatusCode, cause: str) -> bool:
        """Tell the job's owner of a wait that takes long; whether that was done."""
        after_s = self._limits.tell_room_after_s if status is NO_ROOM else self._limits.tell_after_s
        if not job_id or patience.waited_s < after_s:
            return False
        await self._tell(job_id, f"a request to the environment is retried: {cause}")
        return True

    async def _is_light(self, instance: Instance, environment: str) -> bool:
        """A batch is as slow as its slowest step: only steps that take less than a millisecond travel together."""
        if environment not in self._light:
            listing = await instance.stub.ListEnvironments(
                env_pb2.ListEnvironmentsRequest(), timeout=self._limits.call_timeout_s
            )
            light = env_pb2.COST_CLASS_LIGHT
            self._light = {known.id: known.capabilities.cost_class == light for known in listing.environments}
        return self._light.setdefault(environment, False)

    async def _ask(self, session: LiveSession, seq: int, action: str, response_tokens: int) -> env_pb2.StepResult:
        request = env_pb2.StepRequest(lease=session.lease, seq=seq, action=action, response_tokens=response_tokens)
        asked = _AskedStep(request, asyncio.get_running_loop().create_future())
        self._steps.add((session.instance, "" if session.light else session.lease), asked)
        return await asked.answer

    async def _send_steps(self, where: tuple[Instance, str], asked: list[_AskedStep]) -> None:
        request = env_pb2.StepBatchRequest(steps=[question.request for question in asked])
        try:
            response = await where[0].stub.StepBatch(request, timeout=self._limits.call_timeout_s)
            results: Sequence[env_pb2.StepResult] = response.results
        except grpc.aio.AioRpcError as error:
            results = [_refused(error)] * len(asked)
        if len(results) != len(asked):
            short = f"want {len(asked)} results, got {len(results)}"
            results = [_refusal(grpc.StatusCode.DATA_LOSS, short)] * len(asked)
        for question, result in zip(asked, results, strict=True):
            if not question.answer.done():  # its episode may have been cancelled meanwhile
                question.answer.set_result(result)

    async def _renew(self, instance: Instance, leases: list[str]) -> None:
        with suppress(grpc.aio.AioRpcError):  # the next step or renewal finds out
            await instance.stub.Renew(env_pb2.RenewRequest(leases=leases), timeout=RELEASE_TIMEOUT_S)

    async def _send_release(self, instance: Instance, leases: list[str]) -> None:
        try:
            await instance.stub.Close(env_pb2.CloseRequest(leases=leases), timeout=RELEASE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            log.warning("leases were not closed, they will expire", leases=len(leases), error=error.code().name)

    def _to_its_end(self, work: Coroutine[object, None, T]) -> asyncio.Task[T]:
        """A task that goes on when its caller is cancelled: `drain` waits for it."""
        task = asyncio.create_task(work)
        self._opening.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self._opening.discard)
        return task

    def _release_unwanted(self, task: asyncio.Task[OpenedSessions]) -> None:
        if not task.cancelled() and task.exception() is None:
            self.release(task.result().leases)


@asynccontextmanager
async def connected_environments(
    addresses: str, limits: EnvironmentLimits, tell: Tell = _nobody
) -> AsyncIterator[GrpcEnvironments]:
    """A client of the services at these addresses, see `Instances`; every lease is let go at the end.

    Args:
        tell: takes a job and why its calls are asked again and again.
    """
    async with connected_instances(addresses) as instances:
        environments = GrpcEnvironments(instances, limits, tell)
        try:
            async with beside(environments.keep_alive):
                yield environments
        finally:
            await environments.drain()


def _refusal(status: grpc.StatusCode, message: str) -> env_pb2.StepResult:
    return env_pb2.StepResult(refusal=env_pb2.Refusal(code=status.value[0], message=message))


def _refused(error: grpc.aio.AioRpcError) -> env_pb2.StepResult:
    status = UNAVAILABLE if error.code() in CUT_SHORT else error.code()
    return _refusal(status, error.details() or "the call failed")


def _retry_after_s(error: grpc.aio.AioRpcError) -> float:
    trailing = dict(cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ()))
    return int(trailing.get("retry-after-ms", 0)) / 1000
