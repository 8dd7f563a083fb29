"""Publishes stored events of a job to its followers in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from services.api.sql.tables import EventRow
from services.api.sync.stream_ids import Position

MOST_WAITING = 1_000
"""A follower that reads slower than this many tellings behind reads from SQL again."""


@dataclass(frozen=True)
class Told:
    """Stored events of one job, in order and complete from `after` on."""

    after: Position
    events: Sequence[EventRow]


class Follower:
    """One listener's ear."""

    def __init__(self) -> None:
        self._heard, self._told, self.over = asyncio.Event(), list[Told](), False

    def tell(self, told: Told) -> None:
        if len(self._told) == MOST_WAITING:
            self._told.clear()  # what follows does not continue what the listener has, so it looks into SQL
        self._told.append(told)
        self._heard.set()

    def end(self) -> None:
        """Tell the listener that no event follows in this process."""
        self.over = True
        self._heard.set()

    async def listen(self, timeout_s: float) -> list[Told]:
        """The events since the last time; waits for something at most `timeout_s`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._heard.wait(), timeout_s)
        told, self._told = self._told, []
        if not self.over:
            self._heard.clear()
        return told


class News:
    """The followers of each job in this process."""

    def __init__(self) -> None:
        self._followers: dict[str, set[Follower]] = {}
        self._closed = False

    @contextmanager
    def follow(self, job_id: str) -> Iterator[Follower]:
        """A listener on one job while the block runs: it hears all that is stored from now on."""
        follower = Follower()
        if self._closed:
            follower.end()
        self._followers.setdefault(job_id, set()).add(follower)
        try:
            yield follower
        finally:
            self._followers[job_id].discard(follower)
            if not self._followers[job_id]:
                del self._followers[job_id]

    def tell(self, job_id: str, told: Told) -> None:
        """These events were stored."""
        for follower in self._followers.get(job_id, ()):
            follower.tell(told)

    def close(self) -> None:
        """The process drains: let everybody go."""
        self._closed = True
        for followers in self._followers.values():
            for follower in followers:
                follower.end()
