"""How long a call is made again and again: the one place for pauses between the repeats."""

from __future__ import annotations

import asyncio

LONGEST_PAUSE_S = 2.0


class Patience:
    """Pauses of one call, each twice as long as the one before, until the time for it is up.

    Args:
        limit_s: how long the call may be repeated, from now on or from `begin`.
        first_pause_s: the first pause; none is longer than `LONGEST_PAUSE_S`, unless the other side asks for more.
    """

    def __init__(self, limit_s: float, first_pause_s: float) -> None:
        self._limit_s, self._pause_s = limit_s, first_pause_s
        self._began = asyncio.get_running_loop().time()

    def begin(self) -> None:
        """The time counts from now on."""
        self._began = asyncio.get_running_loop().time()

    @property
    def waited_s(self) -> float:
        """Seconds since the beginning."""
        return asyncio.get_running_loop().time() - self._began

    def is_over(self, asked_for_s: float = 0.0) -> bool:
        """Whether the time would be up after the next pause, which takes at least what the other side asked for."""
        self._pause_s = max(self._pause_s, asked_for_s)
        return self.waited_s + self._pause_s > self._limit_s

    async def pause(self) -> None:
        """Wait before the next repeat."""
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
