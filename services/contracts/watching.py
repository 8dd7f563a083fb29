"""The messages of a watched episode, published step by step: JSON on `{job}:watch:{id}`, rollout -> api."""

from __future__ import annotations

import msgspec

from services.contracts.versions import ContractError

LONGEST_TEXT = 64_000
"""Characters of a prompt, a reply or an observation that are told."""
ALIVE_S = 60
"""A watch is forgotten when nobody asked for its steps for so long; the episode that is played for it ends then."""
FIELD = "d"
"""Field of an entry in the stream."""


class Shown(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of everything that is told; the tag is its kind."""

    def data(self) -> dict[str, object]:
        """The content as JSON values by name."""
        found: dict[str, object] = msgspec.to_builtins(self)
        del found["kind"]
        return found


class Waiting(Shown, frozen=True, kw_only=True, tag="waiting"):
    """Nobody plays it yet."""

    message: str
    """One sentence: what it waits for."""


class PlayBegan(Shown, frozen=True, kw_only=True, tag="began"):
    """An episode begins; what was told of an earlier attempt counts no more."""

    task: str
    max_turns: int


class StateReached(Shown, frozen=True, kw_only=True, tag="state"):
    """The policy is shown a state and is about to answer."""

    step_index: int
    observation: str
    anchor: str
    admissible_actions: list[str]
    prompt: str
    """The policy's prompt, special tokens included."""


class StepTaken(Shown, frozen=True, kw_only=True, tag="step"):
    """The policy's reply there, and what came of it."""

    step_index: int
    reply: str
    action: str
    action_valid: bool
    reward: float
    versions: list[int]
    """Policy versions that sampled the reply."""
    finish_reason: str


class PlayEnded(Shown, frozen=True, kw_only=True, tag="ended"):
    """The episode is over."""

    won: bool
    score: float
    steps: int
    return_sum: float
    """Sum of the rewards, not discounted."""
    out_of_turns: bool


class PlayFailed(Shown, frozen=True, kw_only=True, tag="failed"):
    """The episode could not be played to its end."""

    message: str


AnyShown = Waiting | PlayBegan | StateReached | StepTaken | PlayEnded | PlayFailed
LAST = (PlayEnded, PlayFailed)
"""Nothing follows one of these."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyShown)


def encoded(shown: AnyShown) -> bytes:
    """Encode it for the stream."""
    return _encoder.encode(shown)


def decoded(payload: bytes) -> AnyShown:
    """The entry that was told. Raises ContractError."""
    try:
        shown: AnyShown = _decoder.decode(payload)
        return shown
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ContractError(
            f"want a step of a watched episode, got {len(payload)} bytes that cannot be decoded: {error}"
        ) from error
