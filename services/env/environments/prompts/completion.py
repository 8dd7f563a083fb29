"""The input of a reward function."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue


@dataclass(frozen=True)
class Completion:
    """One reply with all that a reward function may look at."""

    text: str
    tokens: int
    """Length of the response, tokens, the stop token included; 0: not known, as when a person plays."""
    prompt: str
    solution: str | None = None
    row: Mapping[str, JsonValue] = field(default_factory=dict)
    """The prompt's whole row, further columns included."""


RewardFunction = Callable[[Completion], float | None]
"""None: it abstains, and has no vote on this reply."""
