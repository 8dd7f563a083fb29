"""An observation, and the outcome of an action, as they travel from the environment's process to the rollout worker."""

from __future__ import annotations

import msgspec


class KeyedObservation(msgspec.Struct, frozen=True, array_like=True):
    """An observation with its keys and the digest of all of it, 16 bytes each."""

    text: str
    anchor: str
    """The text that `anchor_key` digests."""
    anchor_key: bytes
    state_key: bytes
    task: str = ""
    admissible_actions: tuple[str, ...] = ()
    """Empty: not known."""
    digest: bytes = b""
    """Empty: not known."""


class KeyedOutcome(msgspec.Struct, frozen=True, array_like=True):
    """The result of one action. `score` is the episode's so far, in the environment's own terms."""

    observation: KeyedObservation
    reward: float
    score: float
    won: bool
    terminated: bool
    truncated: bool
    action_valid: bool
    rewards: tuple[float, ...] = ()
    """Value of each reward function, where there are any; NaN: it abstained."""
    judge_tokens: int = 0
    """Tokens of other language models that scoring the action has cost."""
    action_key: bytes = b""
    """Digest of the executed action; empty: not known."""

    def then(self, later: KeyedOutcome) -> KeyedOutcome:
        """The result of this action and the next one together."""
        return msgspec.structs.replace(
            later,
            reward=self.reward + later.reward,
            won=self.won or later.won,
            action_valid=self.action_valid and later.action_valid,
            rewards=tuple(one + other for one, other in zip(self.rewards, later.rewards, strict=True)),
            judge_tokens=self.judge_tokens + later.judge_tokens,
        )
