"""Live sessions of environments: where each lives now, and what it takes to make it again elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from gigpo_proto.env.v1 import env_pb2

from services.rollout.instances import Instance
from services.rollout.ports import Opening
from services.rollout.translation import open_request


@dataclass(eq=False)
class LiveSession:
    """One session. Its player knows it by the lease that it began with."""

    opening: Opening
    handle: str
    """The lease that it began with."""
    instance: Instance
    lease: str
    """The one that it has now."""
    light: bool
    """Its steps may wait for each other in one message."""
    digests: list[bytes]
    """Digests of the first observation and of each after it."""
    longest_call_s: float = 0.0
    """How long the environment itself lets one step take; 0: as long as usual."""
    actions: list[str] = field(default_factory=list)
    response_tokens: list[int] = field(default_factory=list)
    """One an action."""
    moves: int = 0
    """How often it was made again since its last answer."""
    stays: bool = False
    """It cannot be replayed."""

    def took(self, action: str, response_tokens: int, digest: bytes) -> None:
        """An action was answered."""
        self.actions.append(action)
        self.response_tokens.append(response_tokens)
        self.digests.append(digest)
        self.moves = 0

    def rebuild_request(self) -> env_pb2.RebuildRequest:
        """The same session, where its actions have led it."""
        start = open_request(self.opening)
        start.n = 1
        start.idempotency_key = f"{self.opening.key}/{self.handle}/{len(self.actions)}/{self.moves}"
        return env_pb2.RebuildRequest(
            start=start, actions=self.actions, digests=self.digests, response_tokens=self.response_tokens
        )
