"""Limits the number of episodes in flight; requests are served in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque


class EpisodeSlots:
    """A number of slots that groups take whole. A group larger than all of them is let in alone.

    Args:
        total: >= 1.
    """

    def __init__(self, total: int) -> None:
        self.total, self.taken = total, 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, count: int) -> None:
        """Return when `count` slots are the caller's."""
        if not self._waiting and self._fits(count):
            self.taken += count
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(count)
            raise

    def give(self, count: int) -> None:
        """Hand slots back."""
        self.taken -= count
        while self._waiting and (self._waiting[0][1].done() or self._fits(self._waiting[0][0])):
            wanted, turn = self._waiting.popleft()
            if not turn.done():
                self.taken += wanted
                turn.set_result(None)

    async def room(self) -> None:
        """Return when a slot is free; takes none."""
        await self.take(1)
        self.give(1)

    def _fits(self, count: int) -> bool:
        return self.taken == 0 or self.taken + count <= self.total
