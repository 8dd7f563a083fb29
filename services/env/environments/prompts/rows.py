"""One row of a data set: a prompt or a conversation to go on with, its solution, and further columns."""

import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from gigpo.env.columns import as_ours, columns_of

NO_PICTURES = "want text, pictures and sounds are not supported"


class Message(BaseModel):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str = ""
    tool_calls: list[JsonValue] | None = Field(None, description="What an assistant calls, as OpenAI writes it.")

    @field_validator("content", mode="before")
    @classmethod
    def _text(cls, content: object) -> object:
        """Parts of text are one text; None beside tool calls is an empty one."""
        if not isinstance(content, list):
            return "" if content is None else content
        if any(not isinstance(part, dict) or part.get("type", "text") != "text" for part in content):
            raise ValueError(NO_PICTURES)
        return "".join(str(part.get("text") or "") for part in content)

    @property
    def said(self) -> str:
        """The text, with its calls of tools."""
        calls = [call for call in self.tool_calls or () if call is not None]
        written = [f"<tool_call>{json.dumps(_function(call), ensure_ascii=False)}</tool_call>" for call in calls]
        return "\n".join(part for part in (self.content, *written) if part)


def _function(call: JsonValue) -> JsonValue:
    return call["function"] if isinstance(call, dict) and "function" in call else call


class Row(BaseModel):
    """One line of a data set. Further columns are kept for reward functions."""

    model_config = ConfigDict(extra="allow")

    prompt: str | None = None
    messages: list[Message] | None = None
    solution: bool | str | int | float | None = None
    choices: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _by_our_names(cls, row: object) -> object:
        """Rows of other shapes, such as verl's, are taken too; see `gigpo.env.columns`."""
        if not isinstance(row, Mapping) or {"prompt", "messages"} <= {k for k, v in row.items() if v is not None}:
            return row
        ours = as_ours(row, columns_of(row, {}))
        return {**{name: value for name, value in row.items() if name not in ("prompt", "messages", "system")}, **ours}

    @model_validator(mode="after")
    def _one_question(self) -> "Row":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("want exactly one of prompt and messages")
        if self.messages is not None:
            roles = [message.role for message in self._asking]
            if roles[-1:] not in (["user"], ["tool"], ["function"]) or "user" not in roles:
                raise ValueError(f"messages: want one user message or more, the last of a user or a tool, got {roles}")
        if not self.question.strip():
            raise ValueError("want a prompt, got an empty one")
        return self

    def __hash__(self) -> int:
        return hash(self.question)

    def __eq__(self, other: object) -> bool:
        """The solution as JSON: 1, 1.0 and true are other solutions."""
        return isinstance(other, Row) and self.model_dump_json() == other.model_dump_json()

    @property
    def _asking(self) -> list[Message]:
        """The messages without an assistant's reply at the end."""
        messages = self.messages or []
        return messages[:-1] if messages and messages[-1].role == "assistant" else messages

    @property
    def question(self) -> str:
        """The prompt. A system message stands above it; of several turns each says whose it is."""
        if self.prompt is not None:
            return self.prompt
        above = [one for one in self._asking if one.role in ("system", "developer")]
        turns = [one for one in self._asking if one not in above]
        said = [one.said for one in turns] if len(turns) == 1 else [f"{one.role}: {one.said}" for one in turns]
        return "\n\n".join([*(one.said for one in above), *said])


MAX_ROWS = 1_000
OwnRows = Annotated[
    tuple[Row, ...],
    Field(
        max_length=MAX_ROWS,
        description="The lines themselves, instead of a folder.",
        json_schema_extra={"format": "text"},
    ),
]
"""Rows that a job carries itself."""
HeldOutShare = Annotated[
    float,
    Field(ge=0, lt=1, description="Share of the prompts that is held out for test; 0: test asks the same ones."),
]
