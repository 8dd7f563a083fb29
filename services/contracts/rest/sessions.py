"""Sessions of outside agents as documents: what they are, and chat completions in the form of OpenAI's API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, model_validator

from services.contracts.rest.base import Document, Request

LONGEST_TEXT = 1 << 20
ToolName = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]


class SessionView(Document):
    """One episode that an outside agent plays."""

    id: str
    job_id: str
    state: Literal["open", "claimed", "closed", "abandoned"]
    """`abandoned`: it gave no reward, and its group is played again."""
    why: str
    """Why it was abandoned; empty: it was not."""
    path: str
    """Put behind the API's address it is the `base_url` for a client of OpenAI's API."""
    task: str
    observation: str
    """The environment's observation now; empty where it shows nothing."""
    admissible_actions: list[str]
    """Empty: not known."""
    turns: int
    """Completions so far."""
    max_turns: int
    reward: float
    """Sum so far."""
    won: bool
    timeout_s: float
    """Longest time between two calls; then the session is abandoned."""
    purpose: str
    """train or eval."""
    group_id: str
    k: int
    """Number of the episode in its group."""
    seed: int
    """The seed of the task, in [0, 2**31): the same in all sessions of one group."""
    split: str


class OpenedSession(SessionView):
    """A session that was just handed out."""

    api_key: str
    """The key of this session alone; shown once."""


class ActionRequest(Request):
    """One action in the session's environment. Its reward belongs to the completion before it."""

    action: str = Field(max_length=64_000, examples=["go north"])


class ActionResult(Document):
    """The result of an action."""

    observation: str
    admissible_actions: list[str]
    reward: float
    action_valid: bool
    over: bool
    """The environment ended the episode, and the session is closed."""


class CloseRequest(Request):
    """The end of a session that its environment has not ended."""

    reward: float | None = Field(None, ge=-1e6, le=1e6, examples=[1.0])
    """Added to the last completion's reward. Null: there is none; the session is abandoned."""
    won: bool | None = Field(None, examples=[True])
    """Null: whether the sum of all rewards is above 0."""


class _OpenAI(Document):
    """Base of what clients of OpenAI's API send: fields that change nothing here may come too."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True)


class TextPart(_OpenAI):
    """A part of a message."""

    type: Literal["text"]
    text: str = Field(max_length=LONGEST_TEXT)


class CalledFunction(_OpenAI):
    """The function of a call."""

    name: ToolName
    arguments: str = Field(max_length=LONGEST_TEXT)
    """A JSON object as text."""


class ChatToolCall(_OpenAI):
    """A call in an assistant's message."""

    id: str = Field(max_length=256)
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatTurn(_OpenAI):
    """One message."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, Field(max_length=LONGEST_TEXT)] | list[TextPart] | None = None
    tool_calls: list[ChatToolCall] | None = None
    tool_call_id: str | None = Field(None, max_length=256)


class ToolFunction(_OpenAI):
    """A tool's function."""

    name: ToolName
    description: str = ""
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    """JSON Schema."""


class ChatTool(_OpenAI):
    """A tool that the policy may call."""

    type: Literal["function"]
    function: ToolFunction


class StreamOptions(_OpenAI):
    """What a stream tells."""

    include_usage: bool = False


class ChatRequest(_OpenAI):
    """A request for a completion, as OpenAI's API has it. `model`, `temperature` and other ways of sampling are the
    job's own and change nothing."""

    messages: list[ChatTurn] = Field(min_length=1, max_length=4_096)
    tools: list[ChatTool] | None = Field(None, max_length=128)
    tool_choice: Literal["auto", "none"] | None = None
    max_tokens: int | None = Field(None, ge=1)
    """Longest reply; it is at most max_completion_length."""
    max_completion_tokens: int | None = Field(None, ge=1)
    n: Literal[1] | None = None
    stop: None = None
    """A reply ends where the policy ends it."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, str] | None = None
    """`anchor`: a name for the state that the policy is in; equal states of a group are compared."""

    @model_validator(mode="before")
    @classmethod
    def _format_is_text(cls, body: object) -> object:
        wanted = body.get("response_format") if isinstance(body, dict) else None
        if wanted is not None and wanted != {"type": "text"}:
            raise ValueError("response_format: want none or {type: text} (a reply is what the policy samples)")
        return body


class CompletionMessage(Document):
    """The policy's reply."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    """Null: it calls tools."""
    tool_calls: list[ChatToolCall] | None = None


class CompletionChoice(Document):
    """The one choice."""

    index: Literal[0] = 0
    message: CompletionMessage
    finish_reason: Literal["stop", "length", "tool_calls"]


class CompletionUsage(Document):
    """Tokens of the exchange."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(Document):
    """A completion, as OpenAI's API has it."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    """Unix seconds."""
    model: str
    """The job's id and the newest policy version that sampled the reply."""
    choices: list[CompletionChoice]
    usage: CompletionUsage


class ModelEntry(Document):
    """A model, as OpenAI's API has it."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "gigpo"


class ModelList(Document):
    """The models of a session: its job's policy."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]
