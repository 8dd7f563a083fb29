"""The tools of an MCP server as an environment: an agent calls them, one a turn, and perhaps answers a question.

Transcript (a server with a tool `add`; rows [{"prompt": "What is 17 + 25?", "solution": "42"}]):

    What is 17 + 25?    {"name": "add", "arguments": {"a": 17, "b": 25}}
    42                  {"name": "answer", "arguments": {"answer": "42"}}       reward 1, won

The anchor is what the last call showed. Licence of the package mcp: MIT.
"""

import json
import random
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from gigpo.env.data import DataFolder
from gigpo.env.environment import (
    Capabilities,
    CostClass,
    Environment,
    EnvironmentKwargs,
    KwargsError,
    Observation,
    Outcome,
)
from services.env.environments.mcp_session import MAX_ANSWER, MAX_TOOLS, McpServer, Session
from services.env.environments.openenv_fields import NoFieldError, at
from services.env.environments.prompts.answers import is_right
from services.env.environments.prompts.questions import folder_splits, own_splits
from services.env.environments.prompts.rows import HeldOutShare, OwnRows
from services.env.environments.splits import task_number
from services.env.environments.tool_calls import ANSWER, Call, Tool, listed, parsed_call


class McpKwargs(EnvironmentKwargs):
    """Which server, what is asked, and what its tools' answers are worth."""

    server: str = Field(description="The name that the operator of this service gave the server.")
    tools: tuple[str, ...] = Field((), description="The tools that the agent may call; empty: all that are allowed.")
    list_tools: bool = Field(True, description="Whether the task lists the tools in words.")
    task: str = Field("", description="The task of the agent, above each question.")
    data: DataFolder | None = Field(
        None, description="Folder with train.jsonl and perhaps test.jsonl; a line holds prompt and solution."
    )
    rows: OwnRows = ()
    split_dataset_ratio: HeldOutShare = 0.1
    start: str = Field("", description="A tool that is called first, with a seed and the split; its text is shown.")
    reward: str = Field("", description="The field of a tool's structured answer that holds the step's reward.")
    done: str = Field("", description="The field of a tool's structured answer that says that the episode is over.")
    won_reward: float = Field(1.0, description="An episode that a tool ends is won by at least this last reward.")
    deterministic: bool = Field(False, description="Same seed and calls, same answers: a lost session is replayed.")
    timeout_s: float = Field(20.0, gt=0, le=600, description="Longest that one answer of the server may take, seconds.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.data is not None and self.rows:
            raise ValueError("want one of data and rows, got both")
        if self.data is None and not self.rows and not self.reward:
            raise ValueError("want questions (data, rows), or the field `reward` of the tools' answers, got neither")
        return self


class Mcp(Environment):
    """The tools of an MCP server that the operator allows: a program, or an address."""

    Kwargs = McpKwargs
    kwargs: McpKwargs
    capabilities = Capabilities(deterministic=False, cost_class=CostClass.MODERATE)
    requires = ("mcp",)
    extra = "mcp"
    examples = ()  # there is no server that everybody has
    max_sessions = 64
    _session: Session | None = None

    @property
    def deterministic(self) -> bool:
        """The job's own setting."""
        return self.kwargs.deterministic

    def reset(self, seed: int, split: str) -> Observation:
        kwargs = self.kwargs
        server = self._server()
        question, self._solution = self._question(seed, split)
        self._session = Session(server, kwargs.timeout_s)
        offered = {str(tool.name): _tool(tool) for tool in self._session.list_tools()[:MAX_TOOLS]}
        tools = self._chosen(offered, server)
        self._answers = self._solution is not None and ANSWER.name not in tools
        if self._answers:
            tools[ANSWER.name] = ANSWER
        self._names = list(tools)
        self.tools = tuple(tool.schema() for tool in tools.values())
        told = (kwargs.task, question, listed(list(tools.values())) if kwargs.list_tools else "")
        self._task = "\n".join(part for part in told if part)
        self._text = ""
        if kwargs.start:
            number = task_number(f"mcp/{split}/{seed}") >> 1  # fits into a signed 32-bit number
            result = self._call(Call(kwargs.start, {"seed": number, "split": split}))
            if isinstance(result, str) or result.is_error:
                raise KwargsError(
                    f"start: {kwargs.start} failed: {result if isinstance(result, str) else _said(result)}"
                )
            self._text = _said(result)
        return self._observation()

    def step(self, action: str) -> Outcome:
        call = parsed_call(action, self._names)
        if isinstance(call, str):
            return self._invalid(call)
        if self._answers and call.name == ANSWER.name:
            return self._answered(call)
        result = self._call(call)
        if isinstance(result, str):
            return self._invalid(result)
        if result.is_error:
            return self._invalid(_said(result))
        self._text = _said(result)
        reward = _number(self._field(result, "reward"))
        done = bool(self._field(result, "done"))
        won = done and reward >= self.kwargs.won_reward
        return Outcome(observation=self._observation(), reward=reward, terminated=done, won=won, action_valid=True)

    def close(self) -> None:
        if self._session is not None:
            self._session.close()

    def _server(self) -> McpServer:
        """The operator's description of the server. KwargsError: no such server is allowed."""
        servers = self.options.get("servers", {})
        described = servers.get(self.kwargs.server) if isinstance(servers, Mapping) else None
        if described is None:
            raise KwargsError(f"server: {self.kwargs.server!r} is not one that the operator of this service allows")
        try:
            return McpServer.model_validate(described)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(["servers", self.kwargs.server, *map(str, problem["loc"])])
            raise KwargsError(f"options of the operator: {where}: {problem['msg']}") from error

    def _question(self, seed: int, split: str) -> tuple[str, str | None]:
        """A question and its answer; without questions neither."""
        kwargs = self.kwargs
        if kwargs.data is None and not kwargs.rows:
            return "", None
        ratio = kwargs.split_dataset_ratio
        splits = folder_splits(kwargs.data, ratio) if kwargs.data else own_splits(kwargs.rows, _NO_SUMS, ratio)
        asked = random.Random(f"mcp/{split}/{seed}").choice(splits.test if split == "test" else splits.train)
        if not asked.solution:
            raise KwargsError(f"data: want a solution in every row, {json.dumps(asked.text)[:80]} has none")
        return asked.text, asked.solution

    def _chosen(self, offered: Mapping[str, Tool], server: McpServer) -> dict[str, Tool]:
        """The tools that the agent may call. KwargsError: one is not there, or not allowed."""
        allowed = [name for name in offered if not server.tools or name in server.tools]
        for key, names in (("tools", self.kwargs.tools), ("start", (self.kwargs.start,) if self.kwargs.start else ())):
            for name in names:
                if name not in allowed:
                    raise KwargsError(f"{key}: want one of {', '.join(sorted(allowed)) or 'no tools'}, got {name!r}")
        chosen = self.kwargs.tools or [name for name in allowed if name != self.kwargs.start]
        if not chosen:
            raise KwargsError(f"server: {self.kwargs.server} offers no tool that is allowed")
        return {name: offered[name] for name in chosen}

    def _call(self, call: Call) -> Any:
        """The server's answer; a sentence where it refuses the call."""
        from mcp import MCPError

        assert self._session is not None
        try:
            return self._session.call_tool(call.name, call.arguments)
        except MCPError as error:
            return str(error) or "the server refuses this call"

    def _answered(self, call: Call) -> Outcome:
        answer = call.arguments.get("answer")
        if len(call.arguments) != 1 or isinstance(answer, bool) or not isinstance(answer, str | int | float):
            return self._invalid("arguments: want one text, answer")
        assert self._solution is not None
        won = is_right(str(answer), self._solution)
        return Outcome(observation=self._observation(), reward=float(won), won=won, terminated=True, action_valid=True)

    def _field(self, result: Any, key: str) -> JsonValue:
        """The value at this key's path in the structured answer; None: no path is given, or it is not there."""
        path = getattr(self.kwargs, key)
        try:
            found: JsonValue = at(result.structured_content, path) if path else None
        except NoFieldError:
            return None
        return found

    def _invalid(self, why: str) -> Outcome:
        shown = "\n".join(part for part in (self._text, why[:MAX_ANSWER]) if part)
        observation = Observation(text=shown, anchor=self._text, task=self._task)
        return Outcome(observation=observation, action_valid=False)

    def _observation(self) -> Observation:
        return Observation(text=self._text, task=self._task)


_NO_SUMS: Any = None
"""`own_splits` makes sums where there are no rows; here there are some."""


def _tool(offered: Any) -> Tool:
    return Tool(str(offered.name), str(offered.description or ""), dict(offered.input_schema))


def _said(result: Any) -> str:
    """A tool's answer in words; pictures and other contents are named."""
    parts = [part.text if part.type == "text" else f"({part.type})" for part in result.content]
    return "\n".join(parts)[:MAX_ANSWER]


def _number(value: JsonValue) -> float:
    """A reward; 0 where there is none. TypeError: it is no number."""
    if isinstance(value, dict | list | str):
        raise TypeError(f"reward: want a number, got {value!r:.80}")
    return float(value or 0.0)
