"""A job's events as lines that people read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.api.dashboard.formats import number, percent
from services.contracts.events import (
    Alarmed,
    BatchTrained,
    CheckpointSaved,
    Evaluated,
    Kind,
    PhaseBegan,
    StateReached,
    Summarized,
    Warned,
    read,
)
from services.contracts.summary import EvaluationResult
from services.presentation.pace import phase_line, phase_words

SHOWN = {
    "": "everything but batches",
    "warning": "warnings",
    "alarm": "alarms",
    "trouble": "batches with retried groups",
    "state": "states",
    "phase": "phases",
    "evaluation": "evaluations",
    "checkpoint": "checkpoints",
    "metrics": "batches",
}
"""The choices, with their labels."""


@dataclass(frozen=True)
class Line:
    """One event."""

    at_unix_s: float
    kind: str
    """The kind of the event; `trouble` for a batch some of whose groups had to be played again."""
    who: str
    words: str
    progress_of: str = ""
    """The phase whose progress it tells; lines of one phase replace each other."""


def kinds_of(chosen: str) -> list[str]:
    """The kinds of events that are read for a choice of `SHOWN`."""
    if not chosen:
        return [kind.value for kind in Kind if kind is not Kind.METRICS]
    return [Kind.METRICS.value if chosen == "trouble" else chosen]


def log_lines(events: Iterable[Any], chosen: str = "") -> list[Line]:
    """The lines of events that come newest first. A phase's progress has its newest line alone."""
    found: list[Line] = []
    for event in events:
        line = _line(event.kind, event.at_unix_s, event.data)
        repeated = line.progress_of and found and found[-1].progress_of == line.progress_of
        if not repeated and (chosen != "trouble" or line.kind == "trouble"):
            found.append(line)
    return found


def _line(kind: str, at: float, data: Mapping[str, Any]) -> Line:
    match read(kind, data):
        case StateReached(state=state, error=error, reason=reason):
            why = error or reason
            return Line(at, kind, "trainer", state.capitalize() + (f": {why}" if why else ""))
        case PhaseBegan() as began:
            words = phase_line(began)
            return Line(at, kind, "trainer", words, phase_words(began) if "done" in began.detail else "")
        case BatchTrained(record=record):
            told = record.get("failed_attempts")
            failed = told if isinstance(told, int | float) else 0
            return Line(at, "trouble" if failed else kind, "trainer", _batch(record, failed))
        case Evaluated(result=result):
            return Line(at, kind, "trainer", _evaluation(result))
        case CheckpointSaved(name=name):
            return Line(at, kind, "trainer", f"checkpoint {name} is durable")
        case Warned(service=service, message=message, count=count):
            return Line(at, kind, service, message + (f" ({number(count)} times so far)" if count > 1 else ""))
        case Alarmed(raised=raised, message=message):
            return Line(at, kind, "api", message if raised else f"over: {message}")
        case Summarized(summary=summary):
            return Line(at, kind, "trainer", _summary(summary))
        case None:
            return Line(at, kind, "?", f"an event that this version does not know: {kind}")


def _batch(record: Mapping[str, Any], failed: float) -> str:
    again = f"; {number(failed)} attempts failed and were played again" if failed else ""
    return f"batch {number(record.get('batch'))}: success {percent(record.get('success'))}{again}"


def _evaluation(result: EvaluationResult) -> str:
    error = percent(result.standard_error)
    crashed = f", {number(result.crashed)} of them crashed their environment" if result.crashed else ""
    success = f"{percent(result.success)} ± {error}"
    panel = f" of panel {result.panel}" if result.panel else ""
    return f"evaluation {result.label}: {success} on {number(result.episodes)} episodes{panel}{crashed}"


def _summary(summary: Mapping[str, Any]) -> str:
    ledger = summary.get("ledger")
    if not isinstance(ledger, Mapping):
        return "the job's summary is written"
    parts = [f"{name.replace('_', ' ')} {_counted(value)}" for name, value in ledger.items()]
    return "groups: " + ", ".join(parts)


def _counted(value: Any) -> str:
    if isinstance(value, Mapping):
        return number(sum(one for one in value.values() if isinstance(one, int)))
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def services_of(instances: Sequence[Any], job_id: str) -> list[Any]:
    """The live instances that say that they are at work on the job."""
    return [one for one in instances if job_id in repr(one.detail)]
