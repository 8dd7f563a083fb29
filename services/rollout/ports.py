"""Ports of the player: live environments, sampled tokens, and a store for episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from services.contracts.messages import Episode, GenerateItem, OpenedGroup
from services.contracts.observation import KeyedObservation, KeyedOutcome
from services.contracts.sampling import SampledTokens, Sampling
from services.ledger import Attempt, DropReason, GroupState


class Opening(msgspec.Struct, frozen=True):
    """Which sessions to open; equal in every field but the key, equal in the initial state."""

    key: str
    """Idempotency key, unique per attempt."""
    environment: str
    kwargs: dict[str, object]
    split: str
    seed: int
    n: int
    job_id: str = ""
    """The job whose owner is told why it takes long."""


class OpenedSessions(msgspec.Struct, frozen=True):
    """n live sessions that start from one state."""

    leases: list[str]
    observation: KeyedObservation
    tools_json: str = ""
    """A JSON array of the tools whose calls are actions; empty: actions are no calls."""


class Environments(Protocol):
    """Live environments behind leases."""

    async def open(self, opening: Opening) -> OpenedSessions:
        """Open n sessions. Raises EnvironmentFault; a cancelled call leaves no lease behind."""

    async def step(self, lease: str, seq: int, action: str, response_tokens: int = 0) -> KeyedOutcome:
        """Apply one action; the first of a lease has seq 1. Raises EnvironmentFault, ModelFault.

        `response_tokens`: length of the response that the action came in; 0: not known.
        """

    def release(self, leases: Sequence[str]) -> None:
        """End leases; returns at once, unknown and ended ones are fine."""


class Ask(msgspec.Struct, frozen=True):
    """A prompt and what its request says beside it."""

    job_id: str
    group_id: str
    """Its episodes begin alike: they begin on one replica, whose cache has that prefix."""
    episode_id: str
    """Its prompts stay on one replica while that lives and has no more to do than others."""
    item: GenerateItem
    min_version: int
    sampling: Sampling


class Inference(Protocol):
    """Replicas that sample from a job's policy."""

    async def generate(self, ask: Ask) -> SampledTokens:
        """The continuation. Raises InferenceFault."""


class EpisodeLedger(Protocol):
    """The moves of the ledger that rollout makes; `services.ledger.Ledger` is the real one."""

    async def start(self, group_id: str, worker: str) -> Attempt:
        """Begin an attempt. Raises MoveRefused."""

    async def record(self, episode: Episode, group: OpenedGroup) -> GroupState:
        """Store a finished episode. Raises MoveRefused."""

    async def fail(
        self, group_id: str, attempt: int, cause: str, *, reason: DropReason = DropReason.INFRA, lost: bool = False
    ) -> GroupState:
        """Give an attempt up, for a reason; a lost one does not count. Raises MoveRefused."""


class Warnings(Protocol):
    """Tells a job's user; `services.ledger.warnings.Warnings` is the real one."""

    async def once(self, job: str, topic: str, message: str) -> None:
        """Show the message, unless one of this topic was shown already."""
