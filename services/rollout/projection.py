"""From what the policy said to the action that the environment gets, and back for the random actor."""

from __future__ import annotations

import re
from typing import Protocol

MAX_ACTION_CHARACTERS = 4_000
"""What is longer is no action anywhere; four bytes a character stay within the environment service's 16 KiB."""
_ACTION = re.compile(r"<action>(.*?)</action>", re.DOTALL)


class Projection(Protocol):
    """How a reply carries its action."""

    def action(self, reply: str) -> str:
        """The action in a reply; what is no action is handed on as it is, the environment decides."""

    def reply(self, action: str) -> str:
        """The reply that says this action and nothing else."""


class PlainProjection:
    """The reply is the action."""

    def action(self, reply: str) -> str:
        """The reply without the spaces around it."""
        return reply.strip()[:MAX_ACTION_CHARACTERS]

    def reply(self, action: str) -> str:
        """The action."""
        return action


class TaggedProjection:
    """The action stands between <action> and </action>."""

    def action(self, reply: str) -> str:
        """What the last pair of tags encloses; without a pair the whole reply."""
        tagged = _ACTION.findall(reply)
        return (tagged[-1] if tagged else reply).strip()[:MAX_ACTION_CHARACTERS]

    def reply(self, action: str) -> str:
        """The action in tags."""
        return f"<action>{action}</action>"
