"""Reads the policy's reply: the action that it carries, or the calls of tools."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from services.rollout.outside import Quote
from services.rollout.tool_calls import Call, CallFormat, MalformedCall, Tool, call_of

MAX_ACTION_CHARACTERS = 64_000
"""The longest action; a longer one is cut. Four bytes a character stay within the environment service's 256 KiB."""
MAX_CALLS = 16
"""Most calls of one reply."""


class Projected(NamedTuple):
    """The environment's part of a reply."""

    action: str
    well_formed: bool
    """False: the reply does not carry an action as its form demands; the step is invalid, whatever comes of it."""
    calls: tuple[Call, ...] = ()
    """The reply's calls of tools: each is an action of its own, one after the other."""
    note: str = ""
    """A note to the agent about its reply."""

    @property
    def actions(self) -> tuple[str, ...]:
        """The actions for the environment, one after the other."""
        return tuple(call.action for call in self.calls) or (self.action,)


class ReplyReader(Protocol):
    """Finds the action in a reply, and writes an action as a reply."""

    def project(self, reply: str) -> Projected:
        """The action for the environment."""

    def reply(self, action: str, quote: Quote = str) -> str:
        """The reply that says this action and nothing else; what is quoted stays text."""


class Projection:
    """How a reply carries its action.

    Args:
        tags: names of the tags of which one pair must enclose the action; none: the reply is the action.
    """

    def __init__(self, tags: Sequence[str] = ()) -> None:
        self._tags = tuple(tags)
        self._pairs = re.compile(rf"<({'|'.join(map(re.escape, tags))})>((?:(?!<\1>).)*?)</\1>", re.DOTALL)

    def project(self, reply: str) -> Projected:
        """The action in a reply: what the last pair of tags encloses, or the reply itself where no tags are wanted.

        With several kinds of tags they say what kind of action it is, so they stay around it. What stands inside
        <think> is no action, closed or not. A reply without a pair, or with nothing in it, is not well formed: the
        environment gets an empty action, which means nothing to it.
        """
        if not self._tags:
            return Projected(reply.strip()[:MAX_ACTION_CHARACTERS], True)
        found = [(tag, inner.strip()[:MAX_ACTION_CHARACTERS]) for tag, inner in self._pairs.findall(_said(reply))]
        if not found or not found[-1][1]:
            return Projected("", False)
        tag, action = found[-1]
        return Projected(action if len(self._tags) == 1 else f"<{tag}>{action}</{tag}>", True)

    def reply(self, action: str, quote: Quote = str) -> str:
        """The reply that says this action and nothing else."""
        text = quote(action)
        return f"<{self._tags[0]}>{text}</{self._tags[0]}>" if len(self._tags) == 1 else text


class CallReader:
    """How a reply calls tools.

    Args:
        most: calls that the chat template can write in one turn.
    """

    def __init__(self, written: CallFormat, tools: Sequence[Tool], *, most: int = MAX_CALLS) -> None:
        self._format, self._tools, self._most = written, tools, most
        self._names = tuple(str(tool["name"]) for tool in tools)

    def project(self, reply: str) -> Projected:
        """The calls behind the thinking. A reply without one is an action as it stands, which the environment judges; a
        call that cannot be read is no action, and the agent is told why."""
        said = _said(reply)
        try:
            calls = tuple(self._format.read(said, self._tools))
            self._check(calls)
        except MalformedCall as error:
            return Projected("", False, note=f"The tool call cannot be read: {error}")
        if not calls:
            return Projected(_message(said)[:MAX_ACTION_CHARACTERS], True)
        return Projected("\n".join(call.action for call in calls), True, calls)

    def reply(self, action: str, quote: Quote = str) -> str:
        """The call in the model's format; what is no call as it stands."""
        call = call_of(action)
        return quote(action) if call is None else self._format.write(call, quote)

    def _check(self, calls: Sequence[Call]) -> None:
        if unknown := next((call.name for call in calls if call.name not in self._names), None):
            raise MalformedCall(f"want a tool that there is ({', '.join(self._names)}), got {unknown[:80]}")
        if len(calls) > self._most:
            raise MalformedCall(f"want at most {self._most} in one turn, got {len(calls)}")
        if longest := next((call for call in calls if len(call.action) > MAX_ACTION_CHARACTERS), None):
            raise MalformedCall(f"want at most {MAX_ACTION_CHARACTERS} characters, got {len(longest.action)}")


def _said(reply: str) -> str:
    """The text behind the thinking."""
    return reply.rpartition("</think>")[2].partition("<think>")[0]


def _message(said: str) -> str:
    """Remove the frame that gpt-oss puts around what it says to people."""
    return said.rpartition("<|channel|>final<|message|>")[2].strip()
