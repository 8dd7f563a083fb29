"""Tells a dead or hung engine from a slow one by its signs of life, not by the time that an answer takes.

An engine is alive while its loop turns or its processes use CPU time (one step on a long prompt may take minutes). It
makes progress while tokens come. Time is counted in observations, so that an engine is not blamed for a time in which
this process itself was stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.inference.engine import EngineFailed
from services.kit.tasks import ended

LONGEST_PAUSE_S = 1.0
"""Longest pause between two looks, seconds."""
LEAST_LOOKS = 5
"""A verdict needs at least this many looks in a row without a sign of life."""
LEAST_CPU_SHARE = 0.005
"""Share of one CPU that a working engine uses at least, also beside many others, and a sleeping one does not."""


@dataclass(frozen=True)
class Patience:
    """How long an engine may show nothing; see settings.py."""

    stall_s: float = 10.0
    token_s: float = 600.0


@dataclass(frozen=True)
class Signs:
    """An engine's state at one look."""

    turns: int
    """How often its loop was seen to turn; only grows."""
    cpu_s: float
    """CPU time of what samples, seconds."""
    work: str
    """Changes whenever a token was sampled or a prompt was finished."""


class Watch:
    """One engine's life.

    Args:
        signs: one cheap look at the engine.
    """

    def __init__(self, patience: Patience, signs: Callable[[], Signs]) -> None:
        self.patience, self._signs = patience, signs
        self.every_s = min(LONGEST_PAUSE_S, patience.stall_s / LEAST_LOOKS)
        self.failure = ""
        """Why the engine counts as dead; empty while it lives."""
        self._mark, self._work = Signs(-1, 0.0, ""), ""
        self._silent_s = self._idle_s = 0.0
        self._guarded: dict[asyncio.Timeout, bool] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look until `stop`, or until the engine counts as dead."""
        self._task = asyncio.create_task(self._run())

    async def stop(self, why: str) -> None:
        """Look no more; whoever still waits for the engine is told `why`."""
        self.fail(why)
        task, self._task = self._task, None
        if task is not None:
            await ended([task])

    def look(self) -> None:
        """Look once; `every_s` is taken to have passed since the last look."""
        signs, patience = self._signs(), self.patience
        used_s = signs.cpu_s - self._mark.cpu_s
        if signs.turns != self._mark.turns or not 0 <= used_s < LEAST_CPU_SHARE * patience.stall_s:
            self._mark, self._silent_s = signs, 0.0
        else:
            self._silent_s += self.every_s
        owes = bool(self._guarded) and all(self._guarded.values())  # no token comes during a weight update
        if signs.work != self._work or not owes:
            self._work, self._idle_s = signs.work, 0.0
        else:
            self._idle_s += self.every_s
        if self._silent_s >= patience.stall_s:
            self.fail(f"it gave no sign of life for {patience.stall_s:g} s")
        elif self._idle_s >= patience.token_s:
            self.fail(f"it is alive but sampled no token for {patience.token_s:g} s")

    def fail(self, why: str) -> None:
        """The engine counts as dead from now on: whoever waits for it is told."""
        if self.failure:
            return
        self.failure = why
        now = asyncio.get_running_loop().time()
        for limit in self._guarded:
            limit.reschedule(now)

    @asynccontextmanager
    async def guard(self, what: str, *, owes_tokens: bool = False) -> AsyncIterator[None]:
        """Wait in this block for as long as the engine lives.

        Raises:
            EngineFailed: it does not, or no longer; says that this happened during `what`.
        """
        try:
            async with asyncio.timeout(None) as limit:
                self._guarded[limit] = owes_tokens
                if self.failure:
                    limit.reschedule(asyncio.get_running_loop().time())
                try:
                    yield
                finally:
                    del self._guarded[limit]
        except TimeoutError:
            if not self.failure:
                raise
            raise EngineFailed(f"the engine failed while {what}: {self.failure}") from None

    async def _run(self) -> None:
        while not self.failure:
            self.look()
            await asyncio.sleep(self.every_s)
