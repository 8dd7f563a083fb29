"""Parses the policy's reply into an action, and writes an action as a reply for the random actor."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

MAX_ACTION_CHARACTERS = 64_000
"""What is longer is cut; four bytes a character stay within the environment service's 256 KiB."""


class Projected(NamedTuple):
    """What an environment gets of a reply."""

    action: str
    well_formed: bool
    """False: the reply does not carry an action as its form demands; the step is invalid, whatever comes of it."""


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
        said = reply.rpartition("</think>")[2].partition("<think>")[0]
        found = [(tag, inner.strip()[:MAX_ACTION_CHARACTERS]) for tag, inner in self._pairs.findall(said)]
        if not found or not found[-1][1]:
            return Projected("", False)
        tag, action = found[-1]
        return Projected(action if len(self._tags) == 1 else f"<{tag}>{action}</{tag}>", True)

    def reply(self, action: str) -> str:
        """The reply that says this action and nothing else."""
        return f"<{self._tags[0]}>{action}</{self._tags[0]}>" if len(self._tags) == 1 else action
