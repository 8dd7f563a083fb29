"""Leases and groups: the right to step a session, and its expiry. No clock, no processes, no network in here."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from services.contracts.faults import FaultClass
from services.contracts.observation import KeyedObservation
from services.env.sessions.errors import NoRoomError, UnknownLeaseError
from services.env.workers.wire import EpisodeSpec, Failed, FailedReason, History, Stepped

RETRY_AFTER_S = (0.1, 5.0)
"""Bounds of the hint when there is no room: a closed lease may free room long before the next one expires."""


class Fault(msgspec.Struct, frozen=True):
    """Why an episode ended without a reward."""

    fault_class: FaultClass
    message: str

    @classmethod
    def of(cls, failed: Failed) -> "Fault":
        """The fault of a step that failed: the environment's, the model's, or else the machinery's."""
        own = {FailedReason.ENV_BUG: FaultClass.ENV_BUG, FailedReason.MODEL: FaultClass.MODEL}
        return cls(own.get(failed.reason, FaultClass.INFRA), failed.message)


class Session(Protocol):
    """The home of an episode: a worker process, or the test's own process."""

    async def step(self, action: str, response_tokens: int) -> Stepped | Failed:
        """Apply one action; WorkerLostError where its home is lost."""

    def close(self) -> None:
        """Free it; fine when it is gone."""


@dataclass(eq=False)
class Lease:
    """One live session and what it takes to rebuild it."""

    id: str
    group_key: str
    spec: EpisodeSpec
    deterministic: bool
    session: Session | None
    """None: its home is lost, the next step rebuilds it."""
    digests: list[bytes]
    """Digests of the first observation and of each after it."""
    actions: list[str] = field(default_factory=list)
    response_tokens: list[int] = field(default_factory=list)
    """One an action."""
    seq: int = 0
    """Number of the last step; 0 before the first."""
    answer: asyncio.Task[Stepped | Fault] | None = None
    """Answer to the step `seq`, perhaps still under way."""
    over: bool = False
    closed: bool = False
    expires_at: float = 0.0

    @property
    def history(self) -> History:
        """The history that a rebuilt session must go through again."""
        return History(tuple(self.actions), tuple(self.digests), tuple(self.response_tokens))

    @property
    def busy(self) -> bool:
        """Whether a step is under way."""
        return self.answer is not None and not self.answer.done()


@dataclass(eq=False)
class Group:
    """Leases that one OpenGroup or Rebuild made. `observation` is the last one, `score` the episode's until there."""

    key: str
    leases: list[str]
    observation: KeyedObservation
    score: float = 0.0
    warnings: tuple[str, ...] = ()
    tools_json: str = ""
    longest_call_s: float = 0.0
    """How long the environment itself lets one call show no life; 0: as long as usual."""


@dataclass(frozen=True)
class Load:
    """How much of the service is in use."""

    draining: bool
    leases: int
    max_leases: int


class LeaseTable:
    """All leases that live. Times are seconds on whatever clock the caller uses.

    Args:
        ttl_s: a lease lives so long after the last call that named it.
        limit: so many may live at once, those being opened included.
    """

    def __init__(self, *, ttl_s: float, limit: int) -> None:
        self.ttl_s = ttl_s
        self.limit = limit
        self._taken: Counter[str] = Counter()
        """Leases by environment, those being opened included."""
        self._leases: dict[str, Lease] = {}
        self._groups: dict[str, Group] = {}

    def __len__(self) -> int:
        return len(self._leases)

    @property
    def taken(self) -> int:
        """Leases that live, those being opened included."""
        return self._taken.total()

    def reserve(self, environment: str, n: int, *, now: float, limit: int) -> None:
        """Keep room for n leases; NoRoomError says when to ask again.

        Args:
            limit: so many leases of this environment may live at once; 0: as many as of all.
        """
        rooms = ((self.taken, self.limit, ""), (self._taken[environment], limit or self.limit, environment))
        for taken, most, whose in rooms:
            if taken + n > most:
                alike = [lease for lease in self._leases.values() if whose in ("", lease.spec.environment)]
                soonest = min((lease.expires_at for lease in alike), default=now)
                low, high = RETRY_AFTER_S
                name = f"leases of {whose!r}" if whose else "leases"
                problem = f"{taken} {name} live and {n} were asked for; at most {most} may"
                raise NoRoomError(problem, min(max(soonest - now, low), high))
        self._taken[environment] += n

    def unreserve(self, environment: str, n: int) -> None:
        """Give back room that `reserve` kept and no lease took."""
        self._taken[environment] -= n

    def add(self, group: Group, leases: Iterable[Lease], now: float) -> None:
        """Let leases live from now on, in room that `reserve` kept."""
        self._groups[group.key] = group
        for lease in leases:
            lease.expires_at = now + self.ttl_s
            self._leases[lease.id] = lease

    def group(self, key: str, now: float) -> Group | None:
        """The group opened under an idempotency key, while one of its leases lives."""
        group = self._groups.get(key)
        if group is None or not any(self._lives(lease, now) for lease in group.leases):
            return None
        return group

    def find(self, lease_id: str, now: float) -> Lease:
        """A live lease, renewed; UnknownLeaseError where it never lived, was closed or expired."""
        if not self._lives(lease_id, now):
            raise UnknownLeaseError(f"lease {lease_id!r} is not alive: it is unknown, closed or expired")
        lease = self._leases[lease_id]
        lease.expires_at = now + self.ttl_s
        return lease

    def close(self, lease_id: str) -> Lease | None:
        """End a lease and free its session; the lease, or None where it did not live. Its group ends with its last."""
        lease = self._leases.pop(lease_id, None)
        if lease is None:
            return None
        lease.closed = True
        self._taken[lease.spec.environment] -= 1
        if lease.session is not None:
            lease.session.close()
        group = self._groups.get(lease.group_key)
        if group is not None and not any(other in self._leases for other in group.leases):
            del self._groups[lease.group_key]
        return lease

    def expired(self, now: float) -> list[str]:
        """Leases whose time is over and that no step keeps busy."""
        return [lease_id for lease_id in self._leases if not self._lives(lease_id, now)]

    def all_ids(self) -> list[str]:
        """Every lease that has not been closed."""
        return list(self._leases)

    def _lives(self, lease_id: str, now: float) -> bool:
        lease = self._leases.get(lease_id)
        return lease is not None and (lease.busy or lease.expires_at > now)
