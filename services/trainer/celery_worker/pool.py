"""Celery's prefork pool with backoff: a child that keeps dying is restarted after growing pauses, and is reported.

Celery's own pool restarts a child at once, for ever, and does not report it. The methods that are overridden here are
internal to Celery, so the version is pinned, and a test kills children of a real worker.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool

if TYPE_CHECKING:
    from billiard.process import Process  # type: ignore[import-untyped]
    from celery.worker import WorkController

STEADY_S = 60.0
"""A child that was up for so long starts the count of deaths in a row anew."""
LONGEST_PAUSE_S = 60.0
SLOW_START_S = 30.0
"""A start that takes longer, seconds, is worth a warning."""
DEATHS_TOLD = 3
"""Deaths in a row from which on they are worth telling."""


def pause_s(deaths: int) -> float:
    """Seconds before the next start after so many deaths in a row: none after the first one, then doubling from 1 s."""
    return 0.0 if deaths < 2 else min(2.0 ** (deaths - 2), LONGEST_PAUSE_S)


class PatientPool(AsynPool):  # type: ignore[misc]
    """One child, or none for a while."""

    turns = 0
    """How often the worker's main loop has looked at the pool, which it does every five seconds."""
    deaths, exit_status = 0, 0
    """Deaths in a row, and the last one's exit status; -n: ended by signal n."""
    born = not_before = 0.0
    up: float | None = None
    """Time since which the child has been up; None: it is not."""

    def complaint(self) -> str | None:
        """A sentence when the child does not come up or keeps dying; None: all is well."""
        if self._waiting_to_start and time.monotonic() - self.born > SLOW_START_S:
            return f"the trainer's process has not started within {SLOW_START_S:g} s; the machine may be too busy"
        if self.deaths < DEATHS_TOLD or self._is_steady():
            return None
        return (
            f"the trainer's process died at least {DEATHS_TOLD} times in a row, the last time with exit status "
            f"{self.exit_status}; it is restarted after pauses of up to {LONGEST_PAUSE_S:g} s"
        )

    def child_pids(self) -> list[int]:
        """Ids of the processes that run; Celery has no name for them."""
        return [child.pid for child in self._pool]

    def on_process_alive(self, pid: int) -> None:
        self.up = time.monotonic()
        super().on_process_alive(pid)

    def _is_steady(self) -> bool:
        return self.up is not None and time.monotonic() - self.up > STEADY_S

    def _create_worker_process(self, i: int) -> Process:
        self.born, self.up = time.monotonic(), None
        return super()._create_worker_process(i)

    def _repopulate_pool(self, exitcodes: list[int | None]) -> None:
        self.turns += 1
        now = time.monotonic()
        for status in exitcodes:
            self.deaths = 1 if self._is_steady() else self.deaths + 1
            self.up, self.exit_status = None, status or 0
            self.not_before = now + pause_s(self.deaths)
        if now >= self.not_before:  # the pool looks again every five seconds
            super()._repopulate_pool(exitcodes)


class PatientTaskPool(TaskPool):  # type: ignore[misc]
    """A pool in Celery's sense, around a `PatientPool`."""

    Pool = PatientPool


def patient_pool(worker: WorkController) -> PatientPool:
    """The pool of a Celery worker that is ready or shuts down; the worker keeps it inside its `TaskPool`."""
    pool = worker.pool._pool
    assert isinstance(pool, PatientPool)
    return pool
