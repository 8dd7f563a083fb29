"""Events whose content is typed: one struct per kind, its way into a `JobEvent`, and the way back.

On the stream and in SQL an event is {kind, at_unix_s, data}; `data` is the struct's fields, and defaults are left out.
Only the constructors here name the fields of a warning, a state or a checkpoint.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from services.contracts.messages import JobEvent, encode

LONGEST_MESSAGE = 2_000
"""Characters of a warning; a longer one is cut: upstream errors may hold whole stack traces."""
_WORDLESS = "a warning without words"
_VARYING = re.compile(r"0x[0-9a-f]+|\b[a-z]?(?=[a-f]*\d)[0-9a-f]{8,}\b|\d+(?:\.\d+)?(?:e[+-]?\d+)?")
"""Ids, addresses and numbers."""


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """Base of the typed contents; the tag is the event's kind."""


class Warned(Body, frozen=True, kw_only=True, tag="warning"):
    """Something went wrong and the job goes on."""

    service: str
    """Which service says it."""
    message: str
    """One sentence."""
    count: int = 1
    """How often it happened so far; a later event of the same `cause_key` replaces this one."""


class StateReached(Body, frozen=True, kw_only=True, tag="state"):
    """The job is in another state."""

    state: str
    """A `JobState`."""
    error: str | None = None
    """Why a job FAILED, one sentence."""
    reason: str | None = None
    """Why a job is QUEUED again, one sentence."""


class CheckpointSaved(Body, frozen=True, kw_only=True, tag="checkpoint"):
    """A checkpoint is durable."""

    batch: int
    """Batches trained in it."""
    name: str
    """Of its folder."""


class RepeatedWarning(msgspec.Struct, frozen=True):
    """All warnings of one service that differ in ids and numbers alone."""

    at_unix_s: float
    """Of the newest."""
    service: str
    message: str
    """Of the newest."""
    count: int


def job_event(body: Body) -> JobEvent:
    """The event, of this moment."""
    data: dict[str, Any] = msgspec.to_builtins(body)
    kind = data.pop("kind")
    if isinstance(body, Warned):
        data["message"] = body.message[:LONGEST_MESSAGE] or _WORDLESS
    return JobEvent(kind=kind, at_unix_s=time.time(), data=data)


def encoded(body: Body) -> bytes:
    """The event as it travels on `{job}:events`."""
    return encode(job_event(body))


def warned(data: Mapping[str, Any]) -> Warned:
    """The warning in an event's data, whoever wrote it; older ones of the inference service name it `text`."""
    message, count = data.get("message") or data.get("text") or _WORDLESS, data.get("count")
    service = data.get("service") or "platform"
    return Warned(
        service=str(service), message=str(message), count=count if isinstance(count, int) and count > 0 else 1
    )


def cause_key(message: str) -> str:
    """What equal causes have in common: the message without ids and numbers, at most 200 characters."""
    return _VARYING.sub("#", message)[:200]


def summarized(events: Iterable[tuple[float, Mapping[str, Any]]]) -> list[RepeatedWarning]:
    """Warnings grouped by service and cause, the newest first.

    Args:
        events: (time in Unix seconds, data) of warning events, the oldest first. Some carry how often it happened so
            far, others are told once each time: the larger of both counts is shown.
    """
    found: dict[tuple[str, str], RepeatedWarning] = {}
    told: dict[tuple[str, str], int] = {}
    for at_unix_s, data in events:
        warning = warned(data)
        key = (warning.service, cause_key(warning.message))
        told[key] = told.get(key, 0) + 1
        former = found.pop(key, None)
        count = max(warning.count, told[key], former.count if former else 1)
        found[key] = RepeatedWarning(at_unix_s, warning.service, warning.message, count)
    return list(found.values())[::-1]
