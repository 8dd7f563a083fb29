"""The use cases: open groups, step, renew, close. Sessions, clock and ids are passed in.

Invariants: a repeated call gives the same answer, and a lost episode never gets a reward. A lost session of a
deterministic environment is rebuilt by replaying its actions; every observation must be the same as before.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from services.contracts.faults import FaultClass
from services.contracts.plain_errors import meant
from services.env.metrics import EXPIRED, OPEN_SECONDS, REBUILT, STEP_FAULTS, step_seconds
from services.env.sessions.errors import (
    BadRequestError,
    DivergedError,
    DrainingError,
    EnvServiceError,
    EpisodeOverError,
    KeyReusedError,
    NoRoomError,
    NotDoneError,
    NotReplayableError,
    NoWorkerError,
    ResetFaultError,
    ResetHungError,
    ResetInfraError,
    SequenceError,
    UnknownEnvironmentError,
    UnknownLeaseError,
    WorkerLostError,
)
from services.env.sessions.leases import Fault, Group, Lease, LeaseTable, Load, Session
from services.env.sessions.openings import Opening, Start
from services.env.workers.wire import EnvironmentEntry, EpisodeSpec, Failed, FailedReason, History, Opened, Stepped

log = logging.getLogger(__name__)

T = TypeVar("T")

NO_HISTORY = History()
MAX_TRIES = 5
"""Homes that one open or step may lose before it is given up: the losses may be the doing of other sessions."""
MAX_OWN_TRIES = 2
"""Homes that may die while running this very step: a second time it is likely the cause."""
REFUSALS: dict[FailedReason, type[EnvServiceError]] = {
    FailedReason.UNKNOWN_ENVIRONMENT: UnknownEnvironmentError,
    FailedReason.BAD_REQUEST: BadRequestError,
    FailedReason.NOT_REPLAYABLE: NotReplayableError,
    FailedReason.DIVERGED: DivergedError,
    FailedReason.INFRA: ResetInfraError,
    FailedReason.HUNG: ResetHungError,
}
"""Reasons why a session cannot be opened that are not the environment's failure."""


def _home_kept(answer: T) -> T:
    """Return the answer. WorkerLostError: it says that the worker lost what it runs on, such as a JVM."""
    if isinstance(answer, Failed) and answer.reason is FailedReason.HOME_LOST:
        raise WorkerLostError(answer.message, running=True)
    return answer


class Sessions(Protocol):
    """The place that opens sessions: the worker pool, or the test's own process."""

    async def describe(self) -> list[EnvironmentEntry]:
        """The environments that can be opened, in order of id. WorkerLostError where nobody can tell."""

    async def open(self, spec: EpisodeSpec, history: History) -> tuple[Session, Opened] | Failed:
        """Open and replay; see wire.OpenEpisode. WorkerLostError where the home is lost on the way, NoWorkerError
        where there is none, NoRoomError where there may be no more."""


@dataclass(frozen=True)
class Limits:
    """How much one call may ask for and how long it may take; see settings.py."""

    call_timeout_s: float
    max_group_size: int
    max_action_bytes: int
    max_sessions: Mapping[str, int] = field(default_factory=dict)


class EnvService:
    """Live sessions behind leases.

    Args:
        clock: seconds, monotonic.
        new_lease_id: a fresh, unguessable id.
    """

    def __init__(
        self,
        sessions: Sessions,
        leases: LeaseTable,
        limits: Limits,
        *,
        clock: Callable[[], float],
        new_lease_id: Callable[[], str],
    ) -> None:
        self._sessions = sessions
        self._leases = leases
        self._limits = limits
        self._clock = clock
        self._new_lease_id = new_lease_id
        self._openings: dict[str, Opening] = {}
        self._draining = False

    @property
    def ttl_s(self) -> float:
        """How long a lease lives without a call, seconds."""
        return self._leases.ttl_s

    @property
    def call_timeout_s(self) -> float:
        """How long a call waits for its answers, seconds."""
        return self._limits.call_timeout_s

    def load(self) -> Load:
        """How much is in use now."""
        return Load(self._draining, self._leases.taken, self._leases.limit)

    async def list_environments(self) -> list[EnvironmentEntry]:
        """The environments that can be opened, in order of id. WorkerLostError: nobody can tell now."""
        return await self._sessions.describe()

    async def open_group(self, key: str, spec: EpisodeSpec, n: int, *, history: History = NO_HISTORY) -> Group:
        """Open n sessions of one task that stand where `history` leads. A repeated key gives the same group while one
        of its leases lives.

        Raises:
            BadRequestError, UnknownEnvironmentError, KeyReusedError: the request cannot be met as it is.
            NotReplayableError, DivergedError: the history cannot be gone through again.
            NoRoomError, DrainingError, WorkerLostError, ResetInfraError: not now.
            ResetFaultError, ResetHungError: the environment does not start.
            NotDoneError: it takes long; repeat the call with its key.
        """
        if not key:
            raise BadRequestError("idempotency_key: want a text, got an empty one")
        most = min(self._limits.max_group_size, self._leases.limit)
        if not 1 <= n <= most:
            raise BadRequestError(f"n: want 1 to {most}, got {n}")
        self._check_history(history)
        start = Start(spec, n, history)
        opening = self._openings.get(key)
        if opening is None or self._has_ended(opening):
            if self._draining:
                raise DrainingError("the service is shutting down and opens no more groups")
            opening = Opening(start, asyncio.create_task(self._open_sessions(key, start)))
            opening.group.add_done_callback(lambda _: self._forget_failed(key, opening))
            self._openings[key] = opening
        if opening.start != start:
            raise KeyReusedError(f"idempotency_key {key!r} was used before with other arguments")
        return await self._wait(opening.group)

    async def step(self, lease_id: str, seq: int, action: str, response_tokens: int = 0) -> Stepped | Fault:
        """Apply one action, or give again the answer to the last one.

        Args:
            response_tokens: length of the response that the action came in; 0: not known.

        Raises:
            UnknownLeaseError, SequenceError, EpisodeOverError, BadRequestError: the step was not taken.
            NotDoneError: it was, and the answer is not there yet; repeat the call.
        """
        return await self._wait(self.begin_step(lease_id, seq, action, response_tokens))

    async def step_all(self, steps: Iterable[tuple[str, int, str, int]]) -> list[Stepped | Fault | EnvServiceError]:
        """Take steps, each with the arguments of `step`, side by side; the answers, or what `step` raises, in order."""
        begun: list[asyncio.Task[Stepped | Fault] | EnvServiceError] = []
        for step in steps:
            try:
                begun.append(self.begin_step(*step))
            except EnvServiceError as error:
                begun.append(error)
        if waiting := [one for one in begun if isinstance(one, asyncio.Task)]:
            await asyncio.wait(waiting, timeout=self._limits.call_timeout_s)
        return [
            one if isinstance(one, EnvServiceError) else one.result() if one.done() else self.not_done()
            for one in begun
        ]

    def begin_step(
        self, lease_id: str, seq: int, action: str, response_tokens: int = 0
    ) -> "asyncio.Task[Stepped | Fault]":
        """Begin a step; its answer will be there when the task is done. Not to be cancelled. Raises what `step` does,
        but for NotDoneError."""
        lease = self._leases.find(lease_id, self._clock())
        if seq != lease.seq or lease.answer is None:
            self._check_step(lease, seq, action)
            lease.seq = seq
            lease.answer = asyncio.create_task(self._take_step(lease, action, response_tokens))
        return lease.answer

    def renew(self, lease_ids: list[str]) -> list[str]:
        """Give leases another ttl; those that do not live, or no longer."""
        unknown = []
        for lease_id in lease_ids:
            try:
                self._leases.find(lease_id, self._clock())
            except UnknownLeaseError:
                unknown.append(lease_id)
        return unknown

    def close(self, lease_ids: list[str]) -> int:
        """End leases; how many of them had lived."""
        closed = [lease for lease_id in lease_ids if (lease := self._leases.close(lease_id)) is not None]
        for key in {lease.group_key for lease in closed}:
            if self._leases.group(key, self._clock()) is None:
                self._openings.pop(key, None)
        return len(closed)

    def reap(self) -> int:
        """End the leases whose time is over; how many."""
        expired = self._leases.expired(self._clock())
        EXPIRED.inc(len(expired))
        if expired:
            log.info("%d leases expired", len(expired))
        return self.close(expired)

    async def drain(self, limit_s: float, *, look_every_s: float = 0.05) -> None:
        """Open no more groups; wait until every lease has ended or `limit_s` has passed, then end the rest."""
        self._draining = True
        until = self._clock() + limit_s
        while len(self._leases) and self._clock() < until:
            await asyncio.sleep(look_every_s)
        if left := self._leases.all_ids():
            log.warning("drained with %d leases alive", len(left))
            self.close(left)

    async def _wait(self, task: "asyncio.Task[T]") -> T:
        """The task's result. It goes on when the caller goes away, or when waiting takes too long (NotDoneError)."""
        try:
            return await asyncio.wait_for(asyncio.shield(task), self._limits.call_timeout_s)
        except TimeoutError as error:
            raise self.not_done() from error

    def not_done(self) -> NotDoneError:
        """The error of a call whose answer is not there in time."""
        return NotDoneError(f"not done after {self._limits.call_timeout_s:g} s; repeat the call")

    def _has_ended(self, opening: Opening) -> bool:
        """Whether it failed, or every lease of it has ended: its key counts as new then."""
        if not opening.group.done():
            return False
        failed = opening.group.cancelled() or opening.group.exception() is not None
        return failed or self._leases.group(opening.group.result().key, self._clock()) is None

    def _forget_failed(self, key: str, opening: Opening) -> None:
        if (opening.group.cancelled() or opening.group.exception()) and self._openings.get(key) is opening:
            del self._openings[key]

    def _check_step(self, lease: Lease, seq: int, action: str) -> None:
        if seq != lease.seq + 1:
            again = "" if lease.answer is None else f"{lease.seq} again or "
            raise SequenceError(f"seq: want {again}{lease.seq + 1}, got {seq}")
        if lease.busy:
            raise SequenceError(f"seq {seq} came before seq {lease.seq} was answered")
        if lease.over:
            raise EpisodeOverError(f"the episode was over after seq {lease.seq}")
        self._check_size("action", action)

    def _check_size(self, name: str, action: str) -> None:
        size = len(action.encode())
        if size > self._limits.max_action_bytes:
            raise BadRequestError(f"{name}: want at most {self._limits.max_action_bytes} bytes, got {size}")

    def _check_history(self, history: History) -> None:
        for number, action in enumerate(history.actions):
            self._check_size(f"actions[{number}]", action)
        wanted = len(history.actions) + 1
        if history.digests and len(history.digests) != wanted:
            raise BadRequestError(f"digests: want none or {wanted}, one more than actions, got {len(history.digests)}")
        lengths = len(history.response_tokens)
        if lengths not in (0, len(history.actions)):
            raise BadRequestError(
                f"response_tokens: want none or one per action, {len(history.actions)}, got {lengths}"
            )

    async def _session_limit(self, environment: str, n: int) -> int:
        """Sessions of it that may live at once; 0: no limit of its own."""
        entries = {entry.id: entry for entry in await self._sessions.describe()}
        if environment not in entries:
            raise UnknownEnvironmentError(
                f"unknown environment {environment!r}; known: {', '.join(entries)}{meant(environment, entries)}"
            )
        if reason := entries[environment].unavailable_reason:  # no worker is to import it
            raise UnknownEnvironmentError(f"environment {environment!r}: {reason}")
        limit = self._limits.max_sessions.get(environment, entries[environment].max_sessions)
        if limit and n > limit:
            raise BadRequestError(f"n: at most {limit} sessions of {environment!r} may live at once, got {n}")
        return limit

    async def _open_sessions(self, key: str, start: Start) -> Group:
        environment, began = start.spec.environment, self._clock()
        limit = await self._session_limit(environment, start.n)
        self._leases.reserve(environment, start.n, now=self._clock(), limit=limit)
        try:
            sessions = await self._open_alike(start)
        except BaseException:
            self._leases.unreserve(environment, start.n)
            raise
        leases = []
        for session, opened in sessions:
            lease = Lease(self._new_lease_id(), key, start.spec, opened.deterministic, session, list(opened.digests))
            lease.actions.extend(start.history.actions)
            lease.response_tokens.extend(start.history.response_tokens or [0] * len(lease.actions))
            lease.seq = len(lease.actions)
            leases.append(lease)
        first = sessions[0][1]
        group = Group(
            key,
            [lease.id for lease in leases],
            first.observation,
            first.score,
            first.warnings,
            first.tools_json,
            first.longest_call_s,
        )
        self._leases.add(group, leases, self._clock())
        OPEN_SECONDS.labels(environment).observe(self._clock() - began)
        return group

    async def _open_alike(self, start: Start) -> list[tuple[Session, Opened]]:
        """n sessions with the same observations, or none and an error. The first goes alone: where its reset does
        harm, it does so once."""
        first = await self._open_one(start)
        others = await asyncio.gather(*(self._open_one(start) for _ in range(start.n - 1)), return_exceptions=True)
        sessions = [first, *(one for one in others if not isinstance(one, BaseException))]
        failures = [one for one in others if isinstance(one, BaseException)]
        if len({opened.digests for _, opened in sessions}) > 1:
            failures.append(ResetFaultError("sessions of one task show different observations"))
        if failures:
            for session, _ in sessions:
                session.close()
            raise failures[0]
        return sessions

    async def _open_one(self, start: Start) -> tuple[Session, Opened]:
        own = 0
        for _ in range(MAX_TRIES):
            try:
                opened = _home_kept(await self._sessions.open(start.spec, start.history))
            except NoWorkerError:
                raise  # it has waited for one already
            except WorkerLostError as lost:
                if lost.hung:
                    raise ResetHungError("reset took too long; its worker was killed") from lost
                own += lost.running
                if own >= MAX_OWN_TRIES:
                    raise
                continue
            if not isinstance(opened, Failed):
                return opened
            raise REFUSALS.get(opened.reason, ResetFaultError)(opened.message)
        raise WorkerLostError(f"{MAX_TRIES} workers were lost while the session was opened")

    async def _take_step(self, lease: Lease, action: str, response_tokens: int) -> Stepped | Fault:
        began, environment = self._clock(), lease.spec.environment
        answer = await self._step_somewhere(lease, action, response_tokens)
        step_seconds(environment).observe(self._clock() - began)
        answer = Fault.of(answer) if isinstance(answer, Failed) else answer
        if isinstance(answer, Fault):
            STEP_FAULTS.labels(environment, answer.fault_class.name).inc()
            log.warning("lease %s, step %d: %s: %s", lease.id, lease.seq, answer.fault_class.name, answer.message)
            lease.over = True
        else:
            lease.actions.append(action)
            lease.response_tokens.append(response_tokens)
            lease.digests.append(answer.observation.digest)
            lease.over = answer.terminated or answer.truncated
        if lease.over:
            lease.session = None  # its home freed it
        lease.expires_at = self._clock() + self._leases.ttl_s
        return answer

    async def _step_somewhere(self, lease: Lease, action: str, response_tokens: int) -> Stepped | Failed | Fault:
        """Step where the session lives; where its home is lost, rebuild it elsewhere and step there."""
        own = 0
        for _ in range(MAX_TRIES):
            try:
                if lease.session is None:
                    opened = _home_kept(await self._sessions.open(lease.spec, lease.history))
                    if isinstance(opened, Failed):
                        return Fault(FaultClass.INFRA, f"the session could not be rebuilt: {opened.message}")
                    lease.session = opened[0]
                    if lease.closed:
                        lease.session.close()
                        return Fault(FaultClass.INFRA, "the lease was closed while its session was rebuilt")
                    REBUILT.labels(lease.spec.environment).inc()
                    log.info("lease %s rebuilt after %d steps", lease.id, len(lease.actions))
                return _home_kept(await lease.session.step(action, response_tokens))
            except (NoWorkerError, NoRoomError) as error:
                return Fault(FaultClass.INFRA, f"the session could not be rebuilt: {error}")
            except WorkerLostError as lost:
                lease.session = None
                own += lost.running
                if lost.hung:
                    return Fault(FaultClass.INFRA, "the step took too long; its worker was killed")
                if own >= MAX_OWN_TRIES:
                    return Fault(FaultClass.INFRA, f"{own} workers died in this step: {lost}")
                if not lease.deterministic:
                    return Fault(FaultClass.INFRA, f"the session cannot be replayed: {lost}")
        return Fault(FaultClass.INFRA, f"{MAX_TRIES} workers were lost in this step")
