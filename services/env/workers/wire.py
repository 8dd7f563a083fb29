"""Messages between the service and its worker processes: msgpack in length-prefixed frames.

One frame holds a list of messages, so that a batch of steps costs one write and one read each way.
"""

import struct
from enum import StrEnum

import msgspec

from services.contracts.observation import KeyedObservation, KeyedOutcome

HEADER = struct.Struct("<I")
"""Length of the frame that follows, bytes."""
MAX_FRAME_BYTES = 1 << 28


class EpisodeSpec(msgspec.Struct, frozen=True, array_like=True):
    """The names of one initial state."""

    environment: str
    kwargs_json: str
    split: str
    seed: int


class History(msgspec.Struct, frozen=True, array_like=True):
    """The actions of an episode, and digests of its observations."""

    actions: tuple[str, ...] = ()
    digests: tuple[bytes, ...] = ()
    """Digests of the first observation and of the one after each action; empty: not known, so a replay compares
    nothing."""
    response_tokens: tuple[int, ...] = ()
    """One an action, as in TakeStep; empty: not known."""


class OpenEpisode(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """Start a session, then replay a history. Answered by Opened or Failed."""

    request: int
    episode: int
    spec: EpisodeSpec
    history: History


class TakeStep(msgspec.Struct, frozen=True, array_like=True, tag="step"):
    """Apply one action. Answered by Stepped or Failed."""

    request: int
    episode: int
    action: str
    response_tokens: int = 0


class CloseEpisode(msgspec.Struct, frozen=True, array_like=True, tag="close"):
    """Free a session; unknown ones are fine. Not answered."""

    episode: int


class Describe(msgspec.Struct, frozen=True, array_like=True, tag="describe"):
    """List the environments of these ids. Answered by Described."""

    request: int
    environments: tuple[str, ...]


Order = OpenEpisode | TakeStep | CloseEpisode | Describe


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """A session stands. `observation` is the last one, `digests` are those of the whole history."""

    request: int
    observation: KeyedObservation
    deterministic: bool
    digests: tuple[bytes, ...]
    score: float
    warnings: tuple[str, ...] = ()
    """The environment's notes on its kwargs and data."""
    tools_json: str = ""
    """The field of the contract's OpenGroupResponse."""
    longest_call_s: float = 0.0


class Stepped(KeyedOutcome, frozen=True, array_like=True, tag="stepped", kw_only=True):
    """One action was applied. The session is freed already where the episode is over."""

    request: int


class FailedReason(StrEnum):
    """Why an order could not be carried out."""

    UNKNOWN_ENVIRONMENT = "unknown_environment"
    BAD_REQUEST = "bad_request"
    ENV_BUG = "env_bug"
    MODEL = "model"
    INFRA = "infra"
    HOME_LOST = "home_lost"
    """Something that the worker's sessions share has gone."""
    NOT_REPLAYABLE = "not_replayable"
    """It has a history, and is not deterministic."""
    DIVERGED = "diverged"
    """A replay gave other observations."""
    HUNG = "hung"
    """It showed no life for too long, in a thread that cannot be ended: the worker is to open no more sessions."""
    LOST = "lost"
    """The worker has no such session."""


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """An order could not be carried out; a session it named is gone."""

    request: int
    reason: FailedReason
    message: str


class EnvironmentEntry(msgspec.Struct, frozen=True, array_like=True):
    """One line of the listing; fields as in the contract's EnvironmentInfo."""

    id: str
    description: str
    kwargs_schema_json: str
    deterministic: bool
    gives_anchors: bool
    thread_safe: bool
    cost_class: int
    default_max_turns: int
    splits: tuple[str, ...]
    prompt_template: str
    vocabulary: tuple[str, ...]
    unavailable_reason: str = ""
    max_sessions: int = 0
    example_kwargs_json: str = "[{}]"
    example_actions: tuple[str, ...] = ()
    templates: dict[str, str] = {}
    overlaps: bool = False
    tools_json: str = ""


class Described(msgspec.Struct, frozen=True, array_like=True, tag="described"):
    """The listing, in the order that was asked for."""

    request: int
    environments: list[EnvironmentEntry]


Answer = Opened | Stepped | Failed | Described

_encoder = msgspec.msgpack.Encoder()
_orders = msgspec.msgpack.Decoder(list[Order])
_answers = msgspec.msgpack.Decoder(list[Answer])


def frame(messages: list[Order] | list[Answer]) -> bytes:
    """Pack messages into one frame, header included."""
    body = _encoder.encode(messages)
    return HEADER.pack(len(body)) + body


def orders(body: bytes) -> list[Order]:
    """Unpack the body of a frame to a worker; msgspec.DecodeError where it is none."""
    return _orders.decode(body)


def answers(body: bytes) -> list[Answer]:
    """Unpack the body of a frame from a worker; msgspec.DecodeError where it is none."""
    return _answers.decode(body)


def packed(value: object) -> bytes:
    """A value as it travels. UnicodeEncodeError: a text in it cannot be sent."""
    return _encoder.encode(value)
