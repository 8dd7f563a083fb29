"""One turn of a policy: a response behind everything that the policy saw before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Allowed = bytes
"""For each of R response tokens the ids that it could have been, its own among them: int32 little-endian, R numbers of
ids, then the ids, token after token. Empty: any token at all."""


class Turn(NamedTuple):
    """A response within its sequence: ids[start:stop], behind the prompt ids[:start]."""

    ids: tuple[int, ...]
    """One object for all turns of a conversation: that is how they are known to share a forward pass."""
    start: int
    stop: int
    allowed: Allowed = b""
    """Where what could be said was restricted: the distribution is over these alone."""

    @property
    def prompt(self) -> tuple[int, ...]:
        """Everything before the response."""
        return self.ids[: self.start]

    @property
    def response(self) -> tuple[int, ...]:
        """The policy's words."""
        return self.ids[self.start : self.stop]


def lone_turn(prompt: Sequence[int], response: Sequence[int]) -> Turn:
    """A turn whose sequence ends with it."""
    return Turn((*prompt, *response), len(prompt), len(prompt) + len(response))
