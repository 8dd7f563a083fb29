"""Any OpenEnv server as an environment, over its WebSocket protocol: one socket, one session.

Transcript (OpenEnv's echo template; action "message", show ["echoed_message"]):

    Echo environment ready!         hello
    hello                           reward 0.5

Anchors: the text of the fields in `anchor`, otherwise of those in `show`. OpenEnv has no task sets: the two splits are
two ranges of seeds, and a server that ignores its seed shows one task. The server decides about rewards, determinism
and recurring states; `deterministic` declares that it is deterministic. Licence of the protocol's code: BSD-3.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from gigpo.env.environment import (
    Capabilities,
    CostClass,
    Environment,
    EnvironmentKwargs,
    Observation,
    Outcome,
)
from services.env.environments.openenv_connection import Connection, Message, check_headers, error_code, error_message
from services.env.environments.openenv_fields import (
    TOOL_FIELDS,
    admissible,
    check_paths,
    check_template,
    filled,
    shown,
    tool_failed,
    tool_text,
)
from services.env.environments.tool_calls import Tool, json_of, listed, parsed_call

WAITS_OF_RESET = 4
"""Waits of `timeout_s` each: to connect, for the handshake, for the first observation, and for the tools."""
GRACE_S = 5.0
"""The socket's own time limits end a wait before the worker is taken for hung."""


class OpenEnvKwargs(EnvironmentKwargs):
    """Settings of the client."""

    url: str = Field(
        pattern=r"^(ws|wss|http|https)://[^/?#@\s]+(/[^?#\s]*)?$",
        description="The server, such as ws://127.0.0.1:8000; the operator of this service must allow its host:port.",
        json_schema_extra={"format": "uri"},
    )
    headers: dict[str, str] = Field(
        {}, description="Sent when the socket opens; they are kept with the job: no secrets."
    )
    action: str | dict[str, JsonValue] = Field(
        "",
        description="The action's field that takes the agent's words, or a template of the action with {words} or "
        "{json} in it; empty: the words are the action, as JSON.",
    )
    tools: bool = Field(False, description="Actions are calls of the server's MCP tools.")
    list_tools: bool = Field(True, description="With tools: whether the task lists them in words.")
    show: tuple[str, ...] = Field(
        (), description="Fields of the observation that the agent sees, such as board.rows; empty: all, as JSON."
    )
    anchor: tuple[str, ...] = Field((), description="Fields that name the state; empty: those that are shown.")
    admissible: str = Field("", description="The field that lists the admissible actions; empty: they are not known.")
    task: str = Field("", description="The task of the agent.")
    reset: dict[str, JsonValue] = Field({}, description="Passed to reset, beside the seed.")
    errors: Literal["fault", "invalid"] = Field(
        "fault", description="What an error of the server's code or of a tool is: a fault, or an invalid action."
    )
    won_reward: float = Field(1.0, description="An episode whose last reward is at least this is won.")
    deterministic: bool = Field(False, description="Same seed and actions, same observations: a lost one is replayed.")
    timeout_s: float = Field(20.0, gt=0, le=600, description="Longest that one answer of the server may take, seconds.")

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        check_headers(self.headers)
        if isinstance(self.action, dict):
            check_template(self.action)
        if self.tools and self.action:
            raise ValueError("tools: want no action beside it, because actions are calls of tools")
        return self


class OpenEnv(Environment):
    """An OpenEnv server elsewhere, over its WebSocket protocol. Its addresses must be allowed by the operator."""

    Kwargs = OpenEnvKwargs
    kwargs: OpenEnvKwargs
    capabilities = Capabilities(deterministic=False, cost_class=CostClass.MODERATE, overlaps=True)
    requires = ("websockets",)
    extra = "openenv"
    examples = ()  # there is no server that everybody has
    max_sessions = 512
    _connection: Connection | None = None

    def __init__(self, kwargs: OpenEnvKwargs) -> None:
        super().__init__(kwargs)
        self._names: list[str] = []
        self._task = kwargs.task

    @property
    def deterministic(self) -> bool:
        """The job's own setting."""
        return self.kwargs.deterministic

    @property
    def longest_call_s(self) -> float:
        """The longest wait of a whole reset."""
        return WAITS_OF_RESET * self.kwargs.timeout_s + GRACE_S

    def reset(self, seed: int, split: str) -> Observation:
        kwargs = self.kwargs
        self._connection = Connection(kwargs.url, self.options, kwargs.headers, kwargs.timeout_s)
        digest = blake2b(f"{split}/{seed}".encode(), digest_size=4).digest()
        data = {**kwargs.reset, "seed": int.from_bytes(digest, "little") >> 1}  # fits into a signed 32-bit number
        observed = _observed(self._asked({"type": "reset", "data": data}), "reset")
        fields = _fields(observed)
        named = [kwargs.admissible] if kwargs.admissible else []
        there = {**dict.fromkeys(TOOL_FIELDS), **fields} if kwargs.tools else fields
        check_paths(there, {"show": kwargs.show, "anchor": kwargs.anchor, "admissible": named})
        if observed.get("done"):
            raise RuntimeError("reset: the server says that the episode is over before its first action")
        if kwargs.tools:
            self._take_tools()
        self._seen = self._observation(fields)
        return self._seen

    def step(self, action: str) -> Outcome:
        data = self._action(action)
        if isinstance(data, str):
            return self._invalid(data)
        answer = self._asked({"type": "step", "data": data})
        code = error_code(answer)
        if code == "VALIDATION_ERROR":
            return self._invalid("")
        if code == "EXECUTION_ERROR" and self.kwargs.errors == "invalid":
            return self._invalid(error_message(answer))
        observed = _observed(answer, "step")
        fields = _fields(observed)
        self._seen = self._observation(fields)
        reward, done = _number(observed.get("reward")), bool(observed.get("done"))
        won = done and reward >= self.kwargs.won_reward
        valid = self.kwargs.errors == "fault" or not tool_failed(fields)
        return Outcome(observation=self._seen, reward=reward, terminated=done, won=won, action_valid=valid)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _asked(self, message: Message) -> Message:
        assert self._connection is not None
        return self._connection.ask(message)

    def _invalid(self, why: str) -> Outcome:
        """Answer that nothing has changed, with the reason where it is known."""
        shown = Observation(
            text="\n".join(part for part in (self._seen.text, why) if part),
            anchor=self._seen.anchor,
            task=self._seen.task,
            admissible_actions=self._seen.admissible_actions,
        )
        return Outcome(observation=shown, action_valid=False)

    def _action(self, words: str) -> Message | str:
        """The action as the server wants it; a sentence, which may be empty: the words are none."""
        if self.kwargs.tools:
            call = parsed_call(words, self._names)
            if isinstance(call, str):
                return call
            return {"type": "call_tool", "tool_name": call.name, "arguments": call.arguments}
        if self._seen.admissible_actions and words not in self._seen.admissible_actions:
            return ""
        if isinstance(self.kwargs.action, dict):
            try:
                action: object = filled(self.kwargs.action, words)
            except ValueError:
                return ""
        else:
            action = {self.kwargs.action: words} if self.kwargs.action else json_of(words)
        return action if isinstance(action, dict) else ""

    def _take_tools(self) -> None:
        """Ask the server for its tools. RuntimeError: it has none."""
        question: Message = {"jsonrpc": "2.0", "method": "tools/list", "id": 1}
        answer = self._asked({"type": "mcp", "data": question}).get("data")
        result = answer.get("result") if isinstance(answer, dict) else None
        offered = result.get("tools") if isinstance(result, dict) else None
        if not isinstance(offered, list) or not offered:
            raise RuntimeError(f"tools: want a list of the server's tools, got {json.dumps(answer)[:300]}")
        tools = [_tool(one) for one in offered if isinstance(one, dict)]
        self._names = [tool.name for tool in tools]
        self.tools = [tool.schema() for tool in tools]
        if self.kwargs.list_tools:
            self._task = "\n".join(part for part in (self.kwargs.task, listed(tools)) if part)

    def _observation(self, fields: Mapping[str, JsonValue]) -> Observation:
        kwargs = self.kwargs
        text = tool_text(fields) if kwargs.tools and not kwargs.show else shown(fields, kwargs.show)
        return Observation(
            text=text,
            anchor=shown(fields, kwargs.anchor) if kwargs.anchor else text,
            task=self._task,
            admissible_actions=admissible(fields, kwargs.admissible) if kwargs.admissible else (),
        )


def _tool(offered: Mapping[str, JsonValue]) -> Tool:
    """A tool as OpenEnv's servers describe it, which write its schema under two names."""
    schema = offered.get("inputSchema") or offered.get("input_schema")
    parameters = schema if isinstance(schema, dict) else {"type": "object", "properties": {}}
    return Tool(str(offered.get("name")), str(offered.get("description") or ""), parameters)


def _number(value: JsonValue) -> float:
    """A reward as the server sent it, which is 0 where it sent none. TypeError: it is no number."""
    if isinstance(value, dict | list):
        raise TypeError(f"reward: want a number, got {value!r:.80}")
    return float(value or 0.0)


def _fields(observed: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    fields = observed.get("observation")
    if not isinstance(fields, dict):
        raise TypeError(f"observation: want an object, got {fields!r:.80}")
    return fields


def _observed(answer: Mapping[str, JsonValue], asked: str) -> dict[str, JsonValue]:
    data = answer.get("data")
    if answer.get("type") != "observation" or not isinstance(data, dict):
        raise RuntimeError(f"the server answered {asked} with {answer!r:.500}")
    return data
