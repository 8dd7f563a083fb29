"""Events that services publish about a job: one struct per kind, written as a `JobEvent` (`encoded`) and read (`read`).

On the stream, in SQL and over REST an event is {kind, at_unix_s, data}. Only this module names the kinds and the fields
of `data`. A field with its default value is omitted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

import msgspec
from pydantic import ValidationError

from services.contracts.messages import JobEvent, encode
from services.contracts.states import JobState
from services.contracts.summary import EvaluationResult

LONGEST_MESSAGE = 2_000
"""Characters of a warning; a longer one is cut: upstream errors may hold whole stack traces."""
_WORDLESS = "a warning without a message"
_VARYING = re.compile(r"0x[0-9a-f]+|\b[a-z]?(?=[a-f]*\d)[0-9a-f]{8,}\b|\d+(?:\.\d+)?(?:e[+-]?\d+)?")
"""Ids, addresses and numbers."""


class Kind(StrEnum):
    """The kinds of events."""

    STATE = "state"
    PHASE = "phase"
    METRICS = "metrics"
    EVALUATION = "evaluation"
    CHECKPOINT = "checkpoint"
    WARNING = "warning"
    SUMMARY = "summary"
    ALARM = "alarm"


class Phase(StrEnum):
    """The activity of a running job."""

    WAITING = "waiting"
    FETCH = "fetch"
    WARMSTART = "warmstart"
    PUBLISH = "publish"
    EVALUATION = "evaluation"
    TRAINING = "training"
    REPLAY = "replay"
    EXPORT = "export"


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """Base of the typed contents; the tag is the event's kind."""

    def data(self) -> dict[str, object]:
        """The content as it travels: JSON values by name."""
        found: dict[str, object] = msgspec.to_builtins(self)
        del found["kind"]
        return found


class Warned(Body, frozen=True, kw_only=True, tag=Kind.WARNING.value):
    """Something went wrong and the job goes on."""

    service: str
    """Which service says it."""
    message: str
    """One sentence."""
    count: int = 1
    """How often it happened so far; a later event of the same `cause_key` replaces this one."""

    def data(self) -> dict[str, object]:
        return {**super().data(), "message": self.message[:LONGEST_MESSAGE] or _WORDLESS}


class Alarmed(Body, frozen=True, kw_only=True, tag=Kind.ALARM.value):
    """An alarm was raised or is over."""

    name: str
    """Name of an `Alarm`."""
    raised: bool
    """False: it is over."""
    message: str
    """One sentence."""
    value: float = 0.0
    """The figure, in the alarm's unit."""


class StateReached(Body, frozen=True, kw_only=True, tag=Kind.STATE.value):
    """The job is in another state."""

    state: JobState
    error: str | None = None
    """Why a job FAILED, one sentence."""
    reason: str | None = None
    """Why a job is QUEUED again, one sentence."""


class CheckpointSaved(Body, frozen=True, kw_only=True, tag=Kind.CHECKPOINT.value):
    """A checkpoint is durable."""

    batch: int
    """Batches trained in it."""
    name: str
    """Name of the checkpoint's folder."""


class PhaseBegan(Body, frozen=True, kw_only=True, tag=Kind.PHASE.value):
    """The job is doing something else, or tells more of what it does."""

    phase: str
    """A `Phase`."""
    detail: Mapping[str, object] = {}
    """Further facts by name, e.g. `label` and `version` of an evaluation."""

    def data(self) -> dict[str, object]:
        return {"phase": str(self.phase), **self.detail}


class BatchTrained(Body, frozen=True, kw_only=True, tag=Kind.METRICS.value):
    """A batch was trained."""

    record: Mapping[str, object]
    """Its metrics by name; the same as its line of metrics.jsonl."""

    def data(self) -> dict[str, object]:
        return dict(self.record)


class Evaluated(Body, frozen=True, kw_only=True, tag=Kind.EVALUATION.value):
    """A policy version was evaluated."""

    result: EvaluationResult

    def data(self) -> dict[str, object]:
        return self.result.model_dump()


class Summarized(Body, frozen=True, kw_only=True, tag=Kind.SUMMARY.value):
    """The job has ended; its state comes next."""

    summary: Mapping[str, object]
    """A `JobSummary` as JSON."""

    def data(self) -> dict[str, object]:
        return dict(self.summary)


AnyBody = StateReached | PhaseBegan | BatchTrained | Evaluated | CheckpointSaved | Warned | Summarized | Alarmed
"""All there are."""


class RepeatedWarning(msgspec.Struct, frozen=True):
    """All warnings of one service that differ in ids and numbers alone."""

    at_unix_s: float
    """Time of the newest."""
    service: str
    message: str
    """Words of the newest."""
    count: int


def job_event(body: Body) -> JobEvent:
    """The event, of this moment."""
    return JobEvent(kind=str(body.__struct_config__.tag), at_unix_s=time.time(), data=body.data())


def encoded(body: Body) -> bytes:
    """The event as it travels on `{job}:events`."""
    return encode(job_event(body))


def read(kind: str, data: Mapping[str, object]) -> AnyBody | None:
    """The content of an event, whoever wrote it and when; None: a kind or a content that is not known here."""
    reader = _READERS.get(kind)
    return None if reader is None else reader(data)


def _state_reached(data: Mapping[str, object]) -> StateReached | None:
    try:
        state = JobState(str(data.get("state")))
    except ValueError:
        return None
    return StateReached(state=state, error=_text(data.get("error")), reason=_text(data.get("reason")))


def _phase_began(data: Mapping[str, object]) -> PhaseBegan:
    detail = {name: value for name, value in data.items() if name != "phase"}
    return PhaseBegan(phase=_text(data.get("phase")) or "", detail=detail)


def _evaluated(data: Mapping[str, object]) -> Evaluated | None:
    known = {name: data[name] for name in EvaluationResult.model_fields if name in data}
    try:
        return Evaluated(result=EvaluationResult.model_validate(known))
    except ValidationError:
        return None


def _checkpoint_saved(data: Mapping[str, object]) -> CheckpointSaved:
    batch = data.get("batch")
    return CheckpointSaved(batch=batch if isinstance(batch, int) else 0, name=_text(data.get("name")) or "")


def _alarmed(data: Mapping[str, object]) -> Alarmed:
    value = data.get("value")
    return Alarmed(
        name=_text(data.get("name")) or "",
        raised=bool(data.get("raised")),
        message=_text(data.get("message")) or _WORDLESS,
        value=float(value) if isinstance(value, int | float) else 0.0,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def warned(data: Mapping[str, object]) -> Warned:
    """The warning in an event's data, whoever wrote it; older ones of the inference service name it `text`."""
    message, count = data.get("message") or data.get("text") or _WORDLESS, data.get("count")
    service = data.get("service") or "platform"
    return Warned(
        service=str(service), message=str(message), count=count if isinstance(count, int) and count > 0 else 1
    )


_READERS: Mapping[str, Callable[[Mapping[str, object]], AnyBody | None]] = {
    Kind.STATE: _state_reached,
    Kind.PHASE: _phase_began,
    Kind.METRICS: lambda data: BatchTrained(record=data),
    Kind.EVALUATION: _evaluated,
    Kind.CHECKPOINT: _checkpoint_saved,
    Kind.WARNING: warned,
    Kind.SUMMARY: lambda data: Summarized(summary=data),
    Kind.ALARM: _alarmed,
}


def cause_key(message: str) -> str:
    """The part that equal causes have in common: the message without ids and numbers, at most 200 characters."""
    return _VARYING.sub("#", message)[:200]


def summarized(events: Iterable[tuple[float, Mapping[str, object]]]) -> list[RepeatedWarning]:
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
