"""A limit on a wait."""

from __future__ import annotations

import asyncio


class Deadline:
    """A limit on a wait, restarted by progress where the caller says so."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.restart()

    def restart(self) -> None:
        self._end = asyncio.get_running_loop().time() + self._limit_s

    @property
    def passed(self) -> bool:
        return asyncio.get_running_loop().time() > self._end
