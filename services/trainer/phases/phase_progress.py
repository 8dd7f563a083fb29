"""Publishes the progress of a phase, often enough for a viewer and seldom enough for a log."""

from __future__ import annotations

import time
from typing import Any

from services.contracts.events import Phase
from services.trainer.events import Events

LEAST_S = 2.0
"""Shortest time between two events."""
LEAST_SHARE = 0.01
"""Least part of the whole between two reports, so that a phase of hours is not reported thousands of times."""


class PhaseProgress:
    """The progress of one phase, or of one part of it.

    Args:
        total: of `unit`, e.g. "episodes"; `detail` goes with every event.
    """

    def __init__(self, events: Events, phase: Phase, total: int, unit: str, **detail: Any) -> None:
        self._events, self._phase, self._total, self._unit, self._detail = events, phase, total, unit, detail
        self._told: tuple[float, int] | None = None

    async def reached(self, done: int) -> None:
        """`done` of the total are there; told where the last word is old enough, and at the beginning and end."""
        now, done = time.monotonic(), min(done, self._total)
        if self._told is not None and done < self._total:
            at, before = self._told
            if now - at < LEAST_S or done - before < LEAST_SHARE * self._total:
                return
        if self._told is None or self._told[1] != done:
            self._told = (now, done)
            await self._events.phase(self._phase, **self._detail, done=done, total=self._total, unit=self._unit)
