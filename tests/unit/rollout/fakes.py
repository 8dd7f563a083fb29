"""Fakes at the player's ports: a corridor, a policy that says random words, a ledger in a dict."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from services.contracts.arrays import pack_float32, pack_int32, unpack_int32
from services.contracts.guidance import pack_allowed
from services.contracts.messages import Episode, OpenedGroup
from services.contracts.observation import KeyedObservation, KeyedOutcome
from services.contracts.sampling import SampledTokens
from services.ledger import Attempt, DropReason, GroupState, MoveRefused
from services.rollout.errors import EnvironmentFault
from services.rollout.ports import Ask, OpenedSessions, Opening

CORRIDOR_WORDS = [
    "reach",
    "cell",
    "at",
    "of",
    ".",
    "go",
    "left",
    "right",
    "act",
    *map(str, range(10)),
    "<action>",
    "</action>",
]


@dataclass
class Corridor:
    """Cells 0..length-1; the task names one of them."""

    at: int
    goal: int
    length: int
    turns_left: int
    seq: int = 0
    last: KeyedOutcome | None = None

    def observation(self) -> KeyedObservation:
        text = f"at {self.at} of {self.length} ."
        anchor = f"reach cell {self.goal} . {text}"
        return KeyedObservation(
            text, anchor, digest(anchor), digest(text), f"reach cell {self.goal}", self.admissible()
        )

    def admissible(self) -> tuple[str, ...]:
        return tuple(
            action for action, room in (("go left", self.at > 0), ("go right", self.at < self.length - 1)) if room
        )

    def step(self, action: str) -> KeyedOutcome:
        valid = action in self.admissible()
        if valid:
            self.at += 1 if action == "go right" else -1
        won = self.at == self.goal
        self.turns_left -= 1
        cut = not won and self.turns_left == 0
        return KeyedOutcome(self.observation(), float(won), float(won), won, won, cut, valid, action_key=digest(action))


def digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


class FakeEnvironments:
    """Corridors behind leases, in memory.

    `fault`: asked before every step with (lease index, seq, attempt); what it returns is raised.
    """

    def __init__(self) -> None:
        self.live: dict[str, Corridor] = {}
        self.openings: list[Opening] = []
        self.fault: Callable[[int, int, int], Exception | None] = lambda k, seq, attempt: None

    async def open(self, opening: Opening) -> OpenedSessions:
        await asyncio.sleep(0)
        self.openings.append(opening)
        rng = random.Random(f"{opening.split}/{opening.seed}")
        length = 8
        at, goal = rng.sample(range(length), 2)
        turns = opening.kwargs.get("max_turns", 20)
        leases = [f"{opening.key}#{k}" for k in range(opening.n)]
        self.live.update({lease: Corridor(at, goal, length, turns) for lease in leases})
        return OpenedSessions(leases, self.live[leases[0]].observation())

    async def step(self, lease: str, seq: int, action: str, response_tokens: int = 0) -> KeyedOutcome:
        await asyncio.sleep(0)
        key, _, k = lease.partition("#")
        if (fault := self.fault(int(k), seq, int(key.split("/")[2]))) is not None:
            raise fault
        corridor = self.live.get(lease)
        if corridor is None:
            raise EnvironmentFault("infra", "unknown lease")
        assert seq == corridor.seq + 1
        corridor.seq = seq
        return corridor.step(action)

    def release(self, leases: Sequence[str]) -> None:
        for lease in leases:
            self.live.pop(lease, None)


class FakeInference:
    """Says one of `replies` (lists of token ids), by the ask's seed; keeps every answer under its item id.

    `fault`: asked before every answer; what it returns is raised.
    """

    def __init__(self, replies: list[list[int]], version: int = 0) -> None:
        self._replies, self.version = replies, version
        self.asks: list[Ask] = []
        self.sampled: dict[str, SampledTokens] = {}
        self.fault: Callable[[Ask], Exception | None] = lambda ask: None

    async def generate(self, ask: Ask) -> SampledTokens:
        await asyncio.sleep(0)
        self.asks.append(ask)
        if (fault := self.fault(ask)) is not None:
            raise fault
        reply = random_reply(self._replies, ask.item.seed, self.version)
        if ask.sampling.truncated:
            reply = msgspec.structs.replace(
                reply, kept=pack_allowed([[token] for token in unpack_int32(reply.response_ids)])
            )
        self.sampled[ask.item.item_id] = reply
        return self.sampled[ask.item.item_id]


def random_reply(replies: list[list[int]], seed: int, version: int) -> SampledTokens:
    """A reply with made-up log-probabilities; a function of the arguments."""
    rng = random.Random(seed)
    ids = rng.choice(replies)
    logprobs = [-rng.random() for _ in ids]
    return SampledTokens(pack_int32(ids), pack_float32(logprobs), pack_int32([version] * len(ids)), "stop")


@dataclass
class FakeLedger:
    """The moves a rollout worker makes, as the real ledger's scripts have them."""

    max_attempts: int = 3
    states: dict[str, GroupState] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    draws: dict[str, int] = field(default_factory=dict)
    causes: dict[str, str] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, DropReason] = field(default_factory=dict)
    """Reasons of the newest failed attempts."""
    stored: dict[str, dict[int, Episode]] = field(default_factory=dict)

    def open(self, group: OpenedGroup) -> None:
        self.states[group.group_id] = GroupState.OPEN

    async def start(self, group_id: str, worker: str) -> Attempt:
        await asyncio.sleep(0)
        if self.states.get(group_id) not in (GroupState.OPEN, GroupState.GENERATING):
            raise MoveRefused(f"{self.states.get(group_id)}")
        self.states[group_id], self.stored[group_id] = GroupState.GENERATING, {}
        self.attempts[group_id] = self.attempts.get(group_id, 0) + 1
        return Attempt(self.attempts[group_id], self.draws.get(group_id, 1))

    async def record(self, episode: Episode, group: OpenedGroup) -> GroupState:
        await asyncio.sleep(0)
        self._check(group.group_id, episode.attempt)
        self.stored[group.group_id].setdefault(episode.k, episode)
        if len(self.stored[group.group_id]) == group.n:
            self.states[group.group_id] = GroupState.COMPLETE
        return self.states[group.group_id]

    async def fail(
        self, group_id: str, attempt: int, cause: str, *, reason: DropReason = DropReason.INFRA, lost: bool = False
    ) -> GroupState:
        await asyncio.sleep(0)
        self._check(group_id, attempt)
        self.draws[group_id] = self.draws.get(group_id, 1) + (reason is not DropReason.INFRA)
        self.reasons[group_id] = reason
        self.stored[group_id], self.causes[group_id] = {}, cause
        self.lost[group_id] = self.lost.get(group_id, 0) + lost
        left = attempt - self.lost[group_id] < self.max_attempts
        self.states[group_id] = GroupState.OPEN if left else GroupState.DROPPED
        return self.states[group_id]

    def _check(self, group_id: str, attempt: int) -> None:
        if self.states.get(group_id) is not GroupState.GENERATING or self.attempts[group_id] != attempt:
            raise MoveRefused(f"{self.states.get(group_id)}, attempt {self.attempts.get(group_id)}")
