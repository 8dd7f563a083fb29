"""A job's life as bars over time: what it did when, and what happened meanwhile. No HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.contracts.events import CheckpointSaved, Evaluated, PhaseBegan, StateReached, Warned, read
from services.contracts.states import JobState
from services.presentation.pace import duration

WIDTH, ROW = 1000.0, 26.0
"""Size of the drawing, in its own units."""
MOST_MARKS = 200
"""Marks of one kind; more lie on each other."""
_LEAST_WIDTH = 1.5
_STEPS_S = (1, 5, 15, 60, 300, 900, 3_600, 4 * 3_600, 86_400, 7 * 86_400)
_MOST_TICKS = 8


class Told(Protocol):
    """An event as SQL holds it."""

    @property
    def kind(self) -> str: ...

    @property
    def at_unix_s(self) -> float: ...

    @property
    def data(self) -> Mapping[str, object]: ...


@dataclass(frozen=True)
class Bar:
    """The job did one thing from `x` on, so long."""

    x: float
    width: float
    words: str


@dataclass(frozen=True)
class Lane:
    """Everything of one phase."""

    name: str
    y: float
    bars: Sequence[Bar]
    times: int
    total_s: float
    share: float
    """Share of the time between the job's first and last event."""


@dataclass(frozen=True)
class Mark:
    """Something that happened at one moment."""

    x: float
    words: str


@dataclass(frozen=True)
class Timeline:
    """Ready to be drawn; x runs from 0 to WIDTH."""

    lanes: Sequence[Lane]
    marks: Mapping[str, Sequence[Mark]]
    """Marks by kind: checkpoints, evaluations, warnings."""
    ticks: Sequence[Mark]
    length_s: float

    @property
    def height(self) -> float:
        return ROW * (len(self.lanes) + 1)


@dataclass
class _Spans:
    """(phase, begin, end), one after another."""

    found: list[tuple[str, float, float]] = field(default_factory=list)
    phase: str | None = None
    since: float = 0.0

    def turn(self, phase: str | None, at: float) -> None:
        if phase == self.phase:
            return
        if self.phase is not None:
            self.found.append((self.phase, self.since, at))
        self.phase, self.since = phase, at


def timeline(events: Sequence[Told], end_unix_s: float) -> Timeline:
    """The life of a job from its events in their order, until `end_unix_s`: now, or when it ended."""
    if not events:
        return Timeline((), {}, (), 0.0)
    began = min(event.at_unix_s for event in events)
    length = max(end_unix_s, *(event.at_unix_s for event in events)) - began
    scale = WIDTH / length if length > 0 else 0.0
    spans, marks = _read(events)
    spans.turn(None, began + length)
    lanes = _lanes(spans.found, began, scale, length)
    placed = {
        kind: [Mark((at - began) * scale, words) for at, words in thinned(found)] for kind, found in marks.items()
    }
    return Timeline(lanes, placed, _ticks(length, scale), length)


def _read(events: Iterable[Told]) -> tuple[_Spans, dict[str, list[tuple[float, str]]]]:
    spans = _Spans()
    marks: dict[str, list[tuple[float, str]]] = {"checkpoints": [], "evaluations": [], "warnings": []}
    for event in events:
        match read(event.kind, event.data):
            case PhaseBegan(phase=phase):
                spans.turn(phase, event.at_unix_s)
            case StateReached(state=state) if state is not JobState.RUNNING:
                spans.turn(None, event.at_unix_s)
            case CheckpointSaved(name=name):
                marks["checkpoints"].append((event.at_unix_s, name))
            case Evaluated(result=result):
                marks["evaluations"].append((event.at_unix_s, f"{result.label}: {100 * result.success:.1f} %"))
            case Warned(service=service, message=message):
                marks["warnings"].append((event.at_unix_s, f"{service}: {message[:120]}"))
    return spans, marks


def _lanes(spans: Sequence[tuple[str, float, float]], began: float, scale: float, length: float) -> list[Lane]:
    lanes = []
    for row, phase in enumerate(dict.fromkeys(phase for phase, _, _ in spans)):
        own = [(begin, end) for name, begin, end in spans if name == phase]
        bars = [
            Bar((begin - began) * scale, max((end - begin) * scale, _LEAST_WIDTH), f"{phase}: {duration(end - begin)}")
            for begin, end in own
        ]
        total = sum(end - begin for begin, end in own)
        lanes.append(Lane(phase, ROW * row, joined(bars), len(own), total, total / length if length > 0 else 0.0))
    return lanes


def joined(bars: Sequence[Bar]) -> list[Bar]:
    """Bars that touch in the drawing as one: a job of 10,000 batches has no more bars than pixels."""
    found: list[Bar] = []
    for bar in bars:
        if found and bar.x - (found[-1].x + found[-1].width) < _LEAST_WIDTH:
            last = found.pop()
            times = int(last.words.partition(" times")[0]) if " times" in last.words else 1
            words = f"{times + 1} times {bar.words.partition(':')[0]}"
            bar = Bar(last.x, bar.x + bar.width - last.x, words)
        found.append(bar)
    return found


def thinned(found: Sequence[tuple[float, str]]) -> Sequence[tuple[float, str]]:
    """At most `MOST_MARKS` of them, evenly spread."""
    return found[:: max(-(-len(found) // MOST_MARKS), 1)]


def _ticks(length: float, scale: float) -> list[Mark]:
    step = next((one for one in _STEPS_S if length / one <= _MOST_TICKS), _STEPS_S[-1])
    while length / step > _MOST_TICKS:
        step *= 2
    at = [n * step for n in range(int(length // step) + 1)]
    return [Mark(second * scale, "0" if second == 0 else duration(second)) for second in at]
