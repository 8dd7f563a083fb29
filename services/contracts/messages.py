"""Messages on the streams: msgspec structs as msgpack. Arrays travel as little-endian bytes, never as pickles.

Every payload starts with the schema version of its kind. `decode` reads every version ever written and refuses newer
ones; `versions` explains which changes need a new version. A part of a message (`Step`, `GenerateItem`, `Generated`)
has no version of its own: when it changes, the messages that hold it get a new version.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from services.contracts.ids import Purpose
from services.contracts.sampling import Prompt, SampledTokens, Sampling
from services.contracts.versions import ContractError as ContractError
from services.contracts.versions import Upgrade, check_version, upgraded


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """Base of everything that crosses a stream."""

    schema: int = 1
    """Version of this kind; a kind with `UPGRADES` overrides the default."""


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
    environment_kwargs: dict[str, object] = {}
    """Overrides of the job's environment kwargs."""
    max_turns: int = 0
    """Overrides the job's horizon when > 0."""
    member: str = ""
    """Which member of the job's mixture it is of; empty: the job has none."""
    trace: str = ""
    """W3C traceparent of the group; empty: it is not traced."""


class Step(SampledTokens, frozen=True, kw_only=True):
    """One model turn, exactly as it was sampled."""

    step_index: int
    prompt_ids: bytes
    """int32 little-endian [P]; of a step that `continues`, what came after the response before."""
    reward: float
    anchor_key: bytes
    """16 bytes, digest of the anchor of the state that was acted in."""
    state_key: bytes
    """16 bytes, digest of that exact state."""
    anchor: str
    """The text that `anchor_key` digests."""
    action: str
    action_valid: bool
    rewards: tuple[float, ...] = ()
    """Value of each of the job's reward functions, not weighed; `reward` is their weighted sum. NaN: the function
    abstained, and has no part in it. Empty: the job has none."""
    continues: bool = False
    """The policy saw the step before, prompt and response, in front of this prompt: a conversation goes on."""
    action_key: bytes = b""
    """16 bytes, digest of the action that the environment executed; empty: of `action`."""
    choices: bytes = b""
    """int32 little-endian: places in the episode's `replies` of those of which the response had to be one; empty: it
    could be any."""


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
    context_overflows: int = 0
    """Times that its conversation outgrew max_context_tokens, so that it began anew or the episode ended."""
    judge_tokens: int = 0
    """Tokens of other language models that scoring it has cost."""
    crashes: int = 0
    """Attempts of its group before this one that failed on what the policy did: an episode crashed its environment."""
    moments: bytes = b""
    """float64 little-endian [2 + 2 T], Unix seconds: when it began; of each of its T turns when an engine was asked and
    when it had answered; when the episode ended. Empty: of a worker of an earlier release."""
    replies: list[bytes] = []
    """The replies that its steps' `choices` name, each once: int32 little-endian, the stop token included."""


STEP_GROUP_BINS = (1, 2, 4, 8, 16)
"""Histogram of step-group sizes: the least size of each bin; the last is open."""


class CompleteGroup(Message, frozen=True, kw_only=True):
    """rollout -> advantage: every episode of the group is in the ledger."""

    job_id: str
    group_id: str
    purpose: Purpose
    cursor: int
    trace: str = ""
    """W3C traceparent of the group; empty: it is not traced."""


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


class GenerateItem(Prompt, frozen=True, kw_only=True):
    """One prompt of a request."""

    item_id: str
    """Unique among all jobs: `job_id/episode_id:step_index:attempt`; a repeated id gets the same answer."""
    trace: str = ""
    """W3C traceparent of the step that asks; empty: it is not traced."""


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
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    stop_words: list[str] = []

    @property
    def sampling(self) -> Sampling:
        """How its prompts are to be sampled."""
        return Sampling(
            self.temperature,
            self.max_tokens,
            tuple(self.stop_token_ids),
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            stop_words=tuple(self.stop_words),
        )


class Generated(SampledTokens, frozen=True, kw_only=True):
    """The engine's sample for one item, or why there is none: then its arrays are empty."""

    item_id: str
    error: str = ""
    """Empty on success; otherwise a sentence. An error is an infrastructure fault, never a reward."""
    retryable: bool = True
    """False when asking again can't help (the prompt does not fit the model)."""

    @staticmethod
    def refusal(item_id: str, error: str, *, retryable: bool = True) -> Generated:
        """Make an answer without tokens; the sentence says why."""
        return Generated(b"", b"", b"", item_id=item_id, error=error, retryable=retryable)


class GenerateReply(Message, frozen=True, kw_only=True):
    """inference -> rollout."""

    replica: str
    results: list[Generated]


class JobEvent(Message, frozen=True, kw_only=True):
    """Any service -> api: something a user wants to see, on `{job}:events`."""

    kind: str
    """A `Kind`; services/contracts/events.py has the struct of each."""
    at_unix_s: float
    data: dict[str, object]


MAX_MESSAGE_BYTES = 64 * 2**20
"""Limit of one message, for its writer and its reader; the embedded Redis takes no value that is much larger."""


class MessageTooLarge(ContractError):
    """A message of more than `MAX_MESSAGE_BYTES`; it names its kind and both sizes."""


UPGRADES: dict[type[Message], tuple[Upgrade[dict[str, object]], ...]] = {}
"""Kind -> its upgrades, each from the fields of one version to those of the next; see `versions`."""


def newest(kind: type[Message]) -> int:
    """The version of a kind that is written today."""
    return 1 + len(UPGRADES.get(kind, ()))


M = TypeVar("M", bound=Message)
_encoder = msgspec.msgpack.Encoder()
_decoders: dict[type[Message], msgspec.msgpack.Decoder[Any]] = {}


class _Head(msgspec.Struct):
    schema: int


_heads = msgspec.msgpack.Decoder(_Head)


def encode(message: Message) -> bytes:
    """The message's bytes; equal messages give equal bytes. Raises MessageTooLarge."""
    payload = _encoder.encode(message)
    _check_size(payload, type(message))
    return payload


def decode(payload: bytes, kind: type[M]) -> M:
    """The message in `payload`, in today's form whatever version it has.

    Raises:
        ContractError: not msgpack, not a `kind`, of a newer version, or too large.
    """
    return decode_view(payload, kind, kind)


def decode_view(payload: bytes, kind: type[Message], view: type[M]) -> M:
    """A message of `kind` as `view`, a struct with some of its fields: the others are skipped, which is faster.

    Raises:
        ContractError: as `decode`.
    """
    _check_size(payload, kind)
    decoder = _decoders.get(view)
    if decoder is None:
        decoder = _decoders[view] = msgspec.msgpack.Decoder(view)
    try:
        message: M = decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:  # nested too deep
        version = _version_in(payload)
        if version is None or version == newest(kind):
            raise ContractError(
                f"want a {kind.__name__}, got {len(payload)} bytes that cannot be decoded: {error}"
            ) from error
    else:
        version = message.schema
        if version == newest(kind):
            return message
    check_version(kind.__name__, version, newest(kind))
    return _converted(payload, version, kind, view)


def _check_size(payload: bytes, kind: type[Message]) -> None:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MessageTooLarge(f"{kind.__name__}: want at most {MAX_MESSAGE_BYTES} bytes, got {len(payload)}")


def _converted(payload: bytes, version: int, kind: type[Message], view: type[M]) -> M:
    try:
        fields = upgraded(msgspec.msgpack.decode(payload), version, UPGRADES[kind])
        return msgspec.convert({**fields, "schema": newest(kind)}, view)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ContractError(
            f"want a {kind.__name__} of schema {version}, got bytes that cannot be decoded: {error!r}"
        ) from error


def _version_in(payload: bytes) -> int | None:
    """The version that the payload names; None: none."""
    try:
        return _heads.decode(payload).schema
    except (msgspec.MsgspecError, RecursionError):
        return None
