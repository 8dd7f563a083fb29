"""The chat of an outside agent as tokens.

A request whose messages are those of the last exchange and more behind them goes on: what was sampled stays as it was
sampled, and only the new messages are encoded. Every other request, such as one that rewrites or compacts what was said
before, or changes the tools, is written whole and begins a sequence of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

from pydantic import JsonValue

from services.contracts.agents import Chat, ChatMessage, ToolCall
from services.rollout.conversation import Shown, without_second_end
from services.rollout.errors import AttemptFailed, TokenizerError
from services.rollout.outside import Quote
from services.rollout.playbook import Playbook, call_reader, chat_template_of
from services.rollout.reply_format import CallReader
from services.rollout.templates import ChatTemplate, call_id
from services.rollout.tool_calls import Call


class ChatRefused(Exception):
    """The agent's messages cannot be put before the policy; the message says why."""


class AgentChat:
    """One session's chat. Use once."""

    def __init__(self, playbook: Playbook) -> None:
        self._playbook, self._tokens = playbook, playbook.tokens
        self._stops = {stop.to_bytes(4, "little") for stop in playbook.tokens.stop_ids}
        self._past: list[ChatMessage] = []
        """Messages of the last exchange, the policy's reply included."""
        self._said = b""
        self._tools: list[dict[str, JsonValue]] | None = None
        self._template: ChatTemplate | None = None
        self._reader: CallReader | None = None

    def show(self, ask: Chat) -> Shown:
        """The prompt that the messages make. Raises ChatRefused."""
        ids = self._behind(ask.messages) if self._takes(ask.tools) else None
        if ids is not None:
            return Shown(ids, self._said + ids, continues=True)
        ids = self._written(ask.messages)
        return Shown(ids, ids)

    def heard(self, ask: Chat, shown: Shown, response_ids: bytes, index: int) -> tuple[ChatMessage, bool]:
        """The policy's reply as a message, and whether it is well formed.

        Args:
            index: of the turn, for the names of its calls.
        """
        text = self._tokens.reply_text(response_ids)
        projected = None if self._reader is None else self._reader.project(text)
        reply = ChatMessage(role="assistant", content=text)
        if projected is not None and projected.calls:
            calls = [
                ToolCall(id=f"call_{index}_{place}", name=call.name, arguments=call.arguments)
                for place, call in enumerate(projected.calls)
            ]
            reply = ChatMessage(role="assistant", calls=calls)
        self._said = shown.whole + response_ids
        self._past = [*ask.messages, reply]
        return reply, projected is None or projected.well_formed

    def _takes(self, tools: list[dict[str, JsonValue]]) -> bool:
        """Whether the tools are those of the last exchange; makes the template for them otherwise."""
        if tools == self._tools:
            return True
        for tool in tools:
            if self._tokens.writes_control(json.dumps(tool, ensure_ascii=False)):
                raise ChatRefused(f"tools: {tool['name']}: want texts without the tokenizer's control tokens")
        try:
            self._template = chat_template_of(self._playbook.spec.environment, self._tokens, tuple(tools))
            self._reader = call_reader(self._template, tuple(tools)) if tools else None
        except TokenizerError as error:
            raise ChatRefused(str(error)) from error
        self._tools = tools
        return False

    def _behind(self, messages: list[ChatMessage]) -> bytes | None:
        """What is new behind the last exchange; None: the messages do not go on from it."""
        known, new = messages[: len(self._past)], messages[len(self._past) :]
        if not self._past or not new or [*map(_content, known)] != [*map(_content, self._past)]:
            return None
        calls = self._past[-1].calls
        results, further = new[: len(calls)], new[len(calls) :]
        if any(one.role != "tool" for one in results) or any(one.role != "user" for one in further):
            return None
        answers = {one.call_id: one.content for one in results}
        if len(results) < len(calls) or answers.keys() != {call.id for call in calls}:
            return None

        def write(quote: Quote) -> str:
            assert self._template is not None
            told = [{"role": one.role, "content": quote(one.content)} for one in further]
            if not calls:
                return self._template.behind(told)
            made = [Call(call.name, call.arguments) for call in calls]
            return self._template.behind_calls(made, [quote(answers[call.id]) for call in calls], told)

        with suppress(AttemptFailed):
            return without_second_end(self._said, self._tokens.encode_quoting(write), self._stops)
        return None

    def _written(self, messages: list[ChatMessage]) -> bytes:
        template = self._template
        if template is None:
            raise ChatRefused("interaction: outside: want a tokenizer with a chat template, got none")
        try:
            return self._tokens.encode_quoting(lambda quote: template.whole(_as_templates_have_it(messages, quote)))
        except AttemptFailed as error:
            raise ChatRefused(f"messages: {error}") from error


def _content(message: ChatMessage) -> object:
    """What must be equal for a message to be the same: agents strip texts and may drop ids."""
    return message.role, message.content.strip(), [(call.name, call.arguments) for call in message.calls]


def _as_templates_have_it(messages: Sequence[ChatMessage], quote: Quote) -> list[dict[str, object]]:
    """Messages as a chat template reads them. Every text is from outside, also what is said to be the policy's."""
    names: dict[str, tuple[str, str]] = {}
    written: list[dict[str, object]] = []
    for one in messages:
        message: dict[str, object] = {"role": one.role, "content": quote(one.content)}
        calls = []
        for call in one.calls:
            names[call.id] = (call_id(len(names)), call.name)
            function = {"name": call.name, "arguments": _quoted(call.arguments, quote)}
            calls.append({"type": "function", "id": names[call.id][0], "function": function})
        if calls:
            message["tool_calls"] = calls
        if one.role == "tool":
            message["tool_call_id"], message["name"] = names.get(one.call_id, (call_id(0), "tool"))
        written.append(message)
    return written


def _quoted(value: JsonValue, quote: Quote) -> JsonValue:
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, list):
        return [_quoted(one, quote) for one in value]
    if isinstance(value, dict):
        return {quote(name): _quoted(one, quote) for name, one in value.items()}
    return value
