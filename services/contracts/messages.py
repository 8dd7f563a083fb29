"""Messages on the streams: msgspec structs as msgpack. Arrays travel as little-endian bytes, never as pickles.

Every payload starts with a schema version; a reader refuses one that it does not know (`decode`).
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from services.contracts.ids import Purpose

SCHEMA = 1
"""Version of every message here; raised when a field changes its meaning."""


class ContractError(ValueError):
    """Bytes that are not a message of the wanted kind and version."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of everything that crosses a stream."""

    schema: int = SCHEMA


class OpenedGroup(Message, frozen=True, kw_only=True):
    """trainer -> rollout: play this group."""

    job_id: str
    group_id: str
    purpose: Purpose
    cursor: int
    """Position in the panel, >= 0; batches are cut in this order."""
    task_seed: int
    """Environment seed, [0, 2**31)."""
    split: str
    n: int
    """Episodes to play from the one initial state, >= 1."""
    min_version: int
    """Oldest policy version that may sample for this group."""
    actor: str = "policy"
    """`policy`: the inference service chooses; `random`: a random admissible action (warm start, baseline)."""
    task_view: str = "shown"
    """`shown`, `hidden` (task-blind) or `shuffled` (another task's sentence): what the prompt says of the task."""
    sentence_seed: int | None = None
    """Environment seed of the world whose task sentence the prompt carries when `shuffled`."""
    environment_kwargs: dict[str, Any] = {}
    """Overrides of the job's environment kwargs."""
    max_turns: int = 0
    """Overrides the job's horizon when > 0."""


class Step(Message, frozen=True, kw_only=True):
    """One model turn, exactly as it was sampled."""

    step_index: int
    prompt_ids: bytes
    """int32 little-endian [P]."""
    response_ids: bytes
    """int32 little-endian [R], R >= 1, the tokens the engine sampled, the stop token included."""
    logprobs: bytes
    """float32 little-endian [R], natural logarithm under the sampled distribution."""
    versions: bytes
    """int32 little-endian [R], policy version of each token."""
    reward: float
    anchor_key: bytes
    """16 bytes, digest of the anchor of the state that was acted in."""
    state_key: bytes
    """16 bytes, digest of that exact state."""
    anchor: str
    """The text that `anchor_key` digests."""
    action: str
    action_valid: bool
    finish_reason: str = "stop"
    """`stop` or `length`."""
    rewards: tuple[float, ...] = ()
    """Value of each of the job's reward functions, not weighed; `reward` is their weighted sum. Empty: it has none."""


class Episode(Message, frozen=True, kw_only=True):
    """rollout -> advantage: one finished episode."""

    group_id: str
    episode_id: str
    k: int
    attempt: int
    task: str
    steps: list[Step]
    won: bool
    score: float
    terminated: bool
    truncated: bool
    worker: str
    """Which rollout worker played it."""
    generate_s: float = 0.0
    """Seconds this episode waited for inference."""
    env_s: float = 0.0
    """Seconds this episode waited for the environment."""
    cut_prompts: int = 0
    """Steps whose observation was cut to fit max_prompt_tokens."""


STEP_GROUP_BINS = (1, 2, 4, 8, 16)
"""Histogram of step-group sizes: the least size of each bin; the last is open."""


class CompleteGroup(Message, frozen=True, kw_only=True):
    """rollout -> advantage: every episode of the group is in the ledger."""

    job_id: str
    group_id: str
    purpose: Purpose
    cursor: int


class ScoredGroup(Message, frozen=True, kw_only=True):
    """advantage -> trainer: one row per step, ordered by (k, step_index); a pure function of the group's episodes."""

    group_id: str
    purpose: Purpose
    cursor: int
    advantage: bytes
    """float64 little-endian [N]: A = A^E + omega A^S."""
    episode_advantage: bytes
    """float64 little-endian [N]: A^E."""
    step_advantage: bytes
    """float64 little-endian [N]: A^S."""
    step_return: bytes
    """float64 little-endian [N]: discounted return-to-go."""
    step_group: bytes
    """int64 little-endian [N]: dense label inside the group, in order of first appearance."""
    episodes_sha: str
    """Hex digest of the episodes' payloads that were scored, in order of k."""
    diagnostics: dict[str, float] = {}


class GenerateItem(Message, frozen=True, kw_only=True):
    """One prompt to continue."""

    item_id: str
    """`episode_id:step_index:attempt`; a repeated id gets the same answer."""
    prompt_ids: bytes
    """int32 little-endian [P], P >= 1."""
    seed: int
    """Sampling seed, [0, 2**31)."""


class GenerateRequest(Message, frozen=True, kw_only=True):
    """rollout -> inference: continue these prompts of one job."""

    job_id: str
    reply_to: str
    """Key of the stream that takes the `GenerateReply`s."""
    items: list[GenerateItem]
    min_version: int
    temperature: float
    max_tokens: int
    stop_token_ids: list[int]
    deadline_unix_s: float
    """Past this instant nobody waits for the answer: drop the request."""


class Generated(Message, frozen=True, kw_only=True):
    """What the engine sampled for one item, or why it did not."""

    item_id: str
    response_ids: bytes = b""
    logprobs: bytes = b""
    versions: bytes = b""
    finish_reason: str = ""
    error: str = ""
    """Empty on success; else a sentence. An error is an infrastructure fault, never a reward."""
    retryable: bool = True
    """False when asking again can't help (the prompt does not fit the model)."""


class GenerateReply(Message, frozen=True, kw_only=True):
    """inference -> rollout."""

    replica: str
    results: list[Generated]


class JobEvent(Message, frozen=True, kw_only=True):
    """Any service -> api: something a user wants to see, on `{job}:events`."""

    kind: str
    """A `Kind`; services/contracts/events.py has the struct of each."""
    at_unix_s: float
    data: dict[str, Any]


M = TypeVar("M", bound=Message)
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type[Message], msgspec.msgpack.Decoder[Any]] = {}


def encode(message: Message) -> bytes:
    """The message's bytes; equal messages give equal bytes."""
    return _encoder.encode(message)


def decode(payload: bytes, kind: type[M]) -> M:
    """The message in `payload`.

    Raises:
        ContractError: not msgpack, not a `kind`, or of another schema version.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        message: M = decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise ContractError(f"want a {kind.__name__}, got {len(payload)} bytes that are none: {error}") from error
    if message.schema != SCHEMA:
        raise ContractError(f"want {kind.__name__} of schema {SCHEMA}, got schema {message.schema}")
    return message
