"""What every group of calls stands on."""

from __future__ import annotations

import uuid
from typing import TypeVar

from client.http.call import Call
from client.http.flow import Flow, perform
from client.http.retries import Retries

T = TypeVar("T")


class Calls:
    """A group of calls of one client."""

    retries: Retries

    def _perform(self, call: Call[T]) -> Flow[T]:
        return perform(call, self.retries)


def once(key: str | None = None) -> dict[str, str]:
    """Headers that give every repetition of a call the answer of the first."""
    return {"Idempotency-Key": key or uuid.uuid4().hex}
