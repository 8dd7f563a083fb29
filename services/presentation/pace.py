"""The progress of a running job's phase and its remaining time, computed from the job's events alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from services.contracts.events import BatchTrained, Phase, PhaseBegan, StateReached, read
from services.contracts.states import JobState

RECENT = 20
"""Batches whose pace is taken for that of the next ones."""
_STOPS = frozenset({JobState.QUEUED, JobState.PAUSED})


@dataclass(frozen=True)
class Progress:
    """A part of a job that has an end."""

    what: str
    """E.g. `warmstart learning`, `evaluation before`, `training`."""
    done: int
    total: int
    unit: str
    left_s: float | None
    """Seconds from the newest event to the end of this part; None: there is no pace yet, or it has ended."""


class Pace:
    """Hears a job's events in their order.

    The time that is left is that of the newest `RECENT` batches, or of the phase so far, drawn out to the end.
    """

    def __init__(self, total_batches: int) -> None:
        self._total_batches = total_batches
        self._points: deque[tuple[float, int]] = deque(maxlen=RECENT + 1)
        self._phase_points: list[tuple[float, int]] = []
        self._phase: Progress | None = None
        self._training = False

    def hear(self, kind: str, at_unix_s: float, data: Mapping[str, object]) -> None:
        """One more event."""
        match read(kind, data):
            case BatchTrained(record=record) if isinstance(batch := record.get("batch"), int):
                self._points.append((at_unix_s, batch + 1))
                self._training, self._phase = True, None
            case PhaseBegan() as began:
                self._begin(began, at_unix_s)
            case StateReached(state=state) if state in _STOPS:
                self._points.clear()
                self._phase = None

    @property
    def progress(self) -> Progress | None:
        """The present work of the job; None: nothing whose end is known."""
        if self._phase is not None or not self._training or not self._total_batches:
            return self._phase
        done = self._points[-1][1] if self._points else 0
        left = _left(list(self._points), self._total_batches)
        return Progress("training", done, self._total_batches, "batches", left)

    def _begin(self, began: PhaseBegan, at_unix_s: float) -> None:
        self._training = began.phase == Phase.TRAINING
        if self._training and not self._points and isinstance(batch := began.detail.get("batch"), int):
            self._points.append((at_unix_s, batch))
        done, total = began.detail.get("done"), began.detail.get("total")
        if not isinstance(done, int) or not isinstance(total, int) or total <= 0:
            self._phase = None
            return
        what = phase_words(began)
        if self._phase is None or self._phase.what != what:
            self._phase_points = []
        self._phase_points.append((at_unix_s, done))
        unit = str(began.detail.get("unit", ""))
        self._phase = Progress(what, done, total, unit, _left(self._phase_points, total))


def phase_words(began: PhaseBegan) -> str:
    """`training`, `evaluation before`, `warmstart learning`, or the reason why a job waits."""
    if began.phase == Phase.WAITING and began.detail.get("reason"):
        return str(began.detail["reason"])
    return " ".join(str(word) for word in (began.phase, *map(began.detail.get, ("label", "doing"))) if word)


def phase_line(began: PhaseBegan) -> str:
    """The same with how far it is, where that is known: `warmstart learning 180/500 steps`."""
    done, total = began.detail.get("done"), began.detail.get("total")
    if not isinstance(done, int) or not isinstance(total, int):
        return phase_words(began)
    return progress_words(Progress(phase_words(began), done, total, str(began.detail.get("unit", "")), None))


def _left(points: list[tuple[float, int]], total: int) -> float | None:
    if len(points) < 2 or points[-1][1] >= total:
        return None
    (began, first), (ended, last) = points[0], points[-1]
    return (total - last) * (ended - began) / (last - first) if last > first and ended > began else None


def duration(seconds: float) -> str:
    """Seconds in the largest unit, below ten of it with the next smaller one too: 4.2 s, 3 min 20 s, 26 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, length, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= length:
            whole, rest = divmod(seconds, length)
            return f"{whole:.0f} {unit}" + (f" {rest // part:.0f} {smaller}" if whole < 10 and rest >= part else "")
    return f"{seconds:.0f} s"


def progress_words(progress: Progress) -> str:
    """`warmstart learning 180/500 steps, 35 s left`."""
    left = "" if progress.left_s is None else f", {duration(progress.left_s)} left"
    return f"{progress.what} {progress.done:,}/{progress.total:,} {progress.unit}".rstrip() + left
