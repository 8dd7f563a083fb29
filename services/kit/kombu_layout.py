"""The layout of a queue of kombu, Celery's message library, in Redis: key names and the form of messages.

The layout is internal to kombu, so the version is pinned, and tests read the messages of a real sender and of a real
worker.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TypeVar

import msgspec

T = TypeVar("T")

UNACKED = "unacked"
"""Hash delivery tag -> what a worker holds: JSON [message, exchange, routing key] (`Channel.unacked_key`)."""
UNACKED_INDEX = "unacked_index"
"""Sorted set delivery tag -> when it was delivered, Unix seconds (`Channel.unacked_index_key`)."""

_PRIORITY_STEPS = (3, 6, 9)
"""Priorities that have a list of their own; 0, the highest, has the queue's own name (`Channel.priority_steps`)."""
_PRIORITY_SEPARATOR = "\x06\x16"


class _Message(msgspec.Struct):
    body: str


def types_of_keys(queue: str) -> dict[str, str]:
    """Every key that kombu uses for a queue -> its type in Redis."""
    bindings = f"_kombu.binding.{queue}"
    held = {UNACKED: "hash", UNACKED_INDEX: "zset", "unacked_mutex": "string", bindings: "set"}
    return {**dict.fromkeys(waiting_lists(queue), "list"), **held}


def waiting_lists(queue: str) -> list[str]:
    """Names of the lists in which the queue's messages wait, highest priority first."""
    return [queue, *(f"{queue}{_PRIORITY_SEPARATOR}{step}" for step in _PRIORITY_STEPS)]


def waiting_arguments(message: bytes) -> list[object]:
    """The positional arguments of the task in a message that waits. Raises ValueError: it is not a task's message."""
    return _arguments(_decoded(message, _Message))


def held_arguments(entry: bytes) -> list[object]:
    """The positional arguments of the task in an entry of `UNACKED`. Raises ValueError: it is not a task's entry."""
    return _arguments(_decoded(entry, tuple[_Message, object, object])[0])


def body_arguments(body: bytes | str) -> list[object]:
    """The positional arguments in a task's body: JSON [arguments, keywords, options]. Raises ValueError."""
    return _decoded(body, tuple[list[object], Mapping[str, object], object])[0]


def _decoded(payload: bytes | str, kind: type[T]) -> T:
    """Raises ValueError, also for what is nested too deep."""
    try:
        return msgspec.json.decode(payload, type=kind)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _arguments(message: _Message) -> list[object]:
    return body_arguments(base64.b64decode(message.body))
