"""What the player needs of the outside, in its own words: live environments, sampled tokens, a place for episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from services.contracts.messages import Episode, OpenedGroup
from services.ledger import GroupState


class Observation(msgspec.Struct, frozen=True):
    """What the agent sees, and the keys of the state it sees."""

    text: str
    anchor: str
    anchor_key: bytes
    """16 bytes."""
    state_key: bytes
    """16 bytes."""
    task: str = ""
    admissible_actions: tuple[str, ...] = ()
    """Empty: not known."""


class Outcome(msgspec.Struct, frozen=True):
    """What one action led to. `score` is the episode's so far, in the environment's own terms."""

    observation: Observation
    reward: float
    score: float
    won: bool
    terminated: bool
    truncated: bool
    action_valid: bool
    rewards: tuple[float, ...] = ()
    """Value of each reward function, where there are any."""


class Opening(msgspec.Struct, frozen=True):
    """Which sessions to open; equal in every field but the key, equal in the initial state."""

    key: str
    """Idempotency key, unique per attempt."""
    environment: str
    kwargs: dict[str, Any]
    split: str
    seed: int
    n: int
    job_id: str = ""
    """Whose owner is told why it takes long."""


class OpenedSessions(msgspec.Struct, frozen=True):
    """n live sessions that start from one state."""

    leases: list[str]
    observation: Observation


class Environments(Protocol):
    """Live environments behind leases."""

    async def open(self, opening: Opening) -> OpenedSessions:
        """Open n sessions. Raises EnvironmentFault; a cancelled call leaves no lease behind."""

    async def step(self, lease: str, seq: int, action: str, response_tokens: int = 0) -> Outcome:
        """Apply one action; the first of a lease has seq 1. Raises EnvironmentFault, ModelFault.

        `response_tokens`: length of the response that the action came in; 0: not known.
        """

    def release(self, leases: Sequence[str]) -> None:
        """End leases; returns at once, unknown and ended ones are fine."""


class Sampling(msgspec.Struct, frozen=True):
    """How a job samples."""

    temperature: float
    max_tokens: int
    stop_token_ids: tuple[int, ...]


class Ask(msgspec.Struct, frozen=True):
    """One prompt to continue."""

    job_id: str
    group_id: str
    """Asks of one group go to one replica while it lives."""
    item_id: str
    """Unique among all jobs; asking again under it gets the same answer."""
    prompt_ids: bytes
    """int32 little-endian [P]."""
    seed: int
    min_version: int
    sampling: Sampling


class Sampled(msgspec.Struct, frozen=True):
    """A response exactly as it was sampled; arrays are little-endian bytes of one length R >= 1."""

    response_ids: bytes
    """int32 [R]."""
    logprobs: bytes
    """float32 [R]."""
    versions: bytes
    """int32 [R]."""
    finish_reason: str


class Inference(Protocol):
    """Replicas that sample from a job's policy."""

    async def generate(self, ask: Ask) -> Sampled:
        """The continuation. Raises InferenceFault."""


class EpisodeLedger(Protocol):
    """The moves of the ledger that rollout makes; `services.ledger.Ledger` is the real one."""

    async def start(self, group_id: str, worker: str) -> int:
        """Begin an attempt. Raises MoveRefused."""

    async def record(self, episode: Episode, group: OpenedGroup) -> GroupState:
        """Store a finished episode. Raises MoveRefused."""

    async def fail(self, group_id: str, attempt: int, cause: str) -> GroupState:
        """Give an attempt up. Raises MoveRefused."""


class Warnings(Protocol):
    """Tells a job's user; `services.ledger.warnings.Warnings` is the real one."""

    async def once(self, job: str, topic: str, message: str) -> None:
        """Show the message, unless one of this topic was shown already."""
