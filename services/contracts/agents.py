"""Outside agents: what the API and the rollout worker that holds a session say to each other, as JSON.

A worker publishes each episode as a session. The API hands it to an agent and passes the agent's calls to the worker's
stream of calls; the worker answers on the calling API process's stream of answers.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from services.contracts.versions import ContractError

OUTSIDE = "outside"
"""`interaction` of a job that outside agents play, and the environment whose reward comes by REST alone."""
LIVE_S = 30
"""A session whose worker is silent for so long is gone."""
KEPT_S = 600
"""The record of a session that is over is kept for so long."""
KEY_PREFIX = "gs_"
"""The beginning of a session's own key."""

T = TypeVar("T")


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all messages."""


class ToolCall(_Part, frozen=True, kw_only=True):
    """A call of a tool in an assistant's message."""

    id: str
    name: str
    arguments: dict[str, Any]


class ChatMessage(_Part, frozen=True, kw_only=True):
    """One message of a chat."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    calls: list[ToolCall] = []
    """The calls in an assistant's message."""
    call_id: str = ""
    """The call that a tool's message answers."""


class Claim(_Part, frozen=True, kw_only=True, tag="claim"):
    """An agent takes the session."""

    key_digest: str
    """SHA-256 of the session's own key, in hex."""


class Chat(_Part, frozen=True, kw_only=True, tag="chat"):
    """The agent asks the policy."""

    messages: list[ChatMessage]
    tools: list[dict[str, Any]] = []
    """name, description, and parameters as a JSON Schema."""
    max_tokens: int | None = None
    anchor: str | None = None
    """The agent's name for the state; None: the platform's own."""
    repeated: bool = False
    """The agent says that it asks this again."""


class Act(_Part, frozen=True, kw_only=True, tag="act"):
    """The agent acts in the environment."""

    action: str


class End(_Part, frozen=True, kw_only=True, tag="end"):
    """The agent closes the session."""

    reward: float | None = None
    """None: there is none, so that the session is abandoned unless its environment has ended it."""
    won: bool | None = None


class Asked(_Part, frozen=True, kw_only=True):
    """api -> rollout: one call of an agent."""

    session_id: str
    call_id: str
    reply_to: str
    """Key of the stream that takes the answer."""
    ask: Claim | Chat | Act | End


class Done(_Part, frozen=True, kw_only=True, tag="done"):
    """The session was claimed, or closed; its record says more."""


class Said(_Part, frozen=True, kw_only=True, tag="said"):
    """The policy's reply."""

    text: str
    calls: list[ToolCall]
    finish_reason: Literal["stop", "length", "tool_calls"]
    prompt_tokens: int
    completion_tokens: int
    versions: list[int]
    """Policy versions that sampled it."""


class Acted(_Part, frozen=True, kw_only=True, tag="acted"):
    """The result of an action."""

    observation: str
    admissible_actions: list[str]
    reward: float
    action_valid: bool
    over: bool


class Refused(_Part, frozen=True, kw_only=True, tag="refused"):
    """The call cannot be met."""

    status: int
    """HTTP's status."""
    message: str


AnyAnswer = Done | Said | Acted | Refused


class Answered(_Part, frozen=True, kw_only=True):
    """rollout -> api: the answer to one call."""

    call_id: str
    answer: AnyAnswer


class SessionRecord(_Part, frozen=True, kw_only=True):
    """One session as its worker keeps it in Redis."""

    session_id: str
    job_id: str
    worker: str
    state: Literal["open", "claimed", "closed", "abandoned"]
    group_id: str
    purpose: str
    k: int
    seed: int
    """The seed of the task: the same in all sessions of one group."""
    split: str
    task: str
    observation: str
    admissible_actions: list[str]
    max_turns: int
    timeout_s: float
    turns: int = 0
    reward: float = 0.0
    """Sum so far."""
    won: bool = False
    why: str = ""
    """Why it is over; empty: it is not, or by its end."""
    key_digest: str = ""

    @property
    def is_over(self) -> bool:
        """Whether no call is answered any more."""
        return self.state in ("closed", "abandoned")


def job_of(session_id: str) -> str:
    """The job whose episode a session is."""
    return session_id.rpartition(".")[0]


def encoded(message: Asked | Answered | SessionRecord) -> bytes:
    """Encode a message. Raises UnicodeEncodeError, OverflowError and RecursionError for what JSON cannot hold."""
    return msgspec.json.encode(message)


def decoded_call(payload: bytes) -> Asked:
    """A call. Raises ContractError."""
    return _decoded(payload, Asked)


def decoded_answer(payload: bytes) -> Answered:
    """An answer. Raises ContractError."""
    return _decoded(payload, Answered)


def decoded_record(payload: bytes) -> SessionRecord:
    """A record. Raises ContractError."""
    return _decoded(payload, SessionRecord)


def _decoded(payload: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(payload, type=kind)
    except msgspec.MsgspecError as error:
        raise ContractError(
            f"want {kind.__name__}, got {len(payload)} bytes that cannot be decoded: {error}"
        ) from error
