"""Messages between the service and its worker processes: msgpack in length-prefixed frames.

One frame holds a list of messages, so that a batch of steps costs one write and one read each way.
"""

import struct
from hashlib import blake2b

import msgspec

HEADER = struct.Struct("<I")
"""Length of the frame that follows, bytes."""
MAX_FRAME_BYTES = 1 << 28


class EpisodeSpec(msgspec.Struct, frozen=True, array_like=True):
    """What names one initial state."""

    environment: str
    kwargs_json: str
    split: str
    seed: int


class OpenEpisode(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """Start a session, then replay `actions`; the digest after each must equal that in `digests` (first: reset's).

    With no `digests` nothing is compared.
    """

    request: int
    episode: int
    spec: EpisodeSpec
    actions: list[str]
    digests: list[bytes]


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
    """List the environments. Answered by Described."""

    request: int


Order = OpenEpisode | TakeStep | CloseEpisode | Describe


class KeyedObservation(msgspec.Struct, frozen=True, array_like=True):
    """An observation with its keys, 16 bytes each."""

    text: str
    anchor: str
    anchor_key: bytes
    state_key: bytes
    task: str
    admissible_actions: tuple[str, ...]


class Opened(msgspec.Struct, frozen=True, array_like=True, tag="opened"):
    """A session stands. `digest`: of the last observation."""

    request: int
    observation: KeyedObservation
    deterministic: bool
    digest: bytes


class Stepped(msgspec.Struct, frozen=True, array_like=True, tag="stepped"):
    """One action was applied. The session is freed already where the episode is over."""

    request: int
    observation: KeyedObservation
    reward: float
    score: float
    won: bool
    terminated: bool
    truncated: bool
    action_valid: bool
    digest: bytes
    rewards: tuple[float, ...] = ()


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """An order could not be carried out; a session it named is gone.

    reason: unknown_environment | bad_request | env_bug | model | diverged (a replay gave other observations) | lost
    (no such session).
    """

    request: int
    reason: str
    message: str


class EnvironmentEntry(msgspec.Struct, frozen=True, array_like=True):
    """One line of the listing; fields as in the contract's EnvironmentInfo."""

    id: str
    description: str
    kwargs_schema_json: str
    deterministic: bool
    gives_anchors: bool
    snapshot: bool
    thread_safe: bool
    cost_class: int
    default_max_turns: int
    splits: tuple[str, ...]
    prompt_template: str
    vocabulary: tuple[str, ...]
    unavailable_reason: str = ""


class Described(msgspec.Struct, frozen=True, array_like=True, tag="described"):
    """The listing, in order of id."""

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


def observation_digest(observation: KeyedObservation) -> bytes:
    """What a replay must meet again: everything of the observation, 16 bytes."""
    return blake2b(_encoder.encode(observation), digest_size=16).digest()
