"""A cache whose entries expire, for queries that are slow."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Asks once at a time for each key; an answer is given again for `keep_s`, an error never.

    Args:
        ask: the question.
        keep_s: seconds.
        worth_keeping: whether an answer may be given again.
        most: answers that are kept; the one longest unused goes first.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        ask: Callable[[K], Awaitable[V]],
        *,
        keep_s: float,
        worth_keeping: Callable[[V], bool] = lambda _: True,
        most: int = 1_024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._keep_s, self._worth_keeping = ask, keep_s, worth_keeping
        self._most, self._clock = most, clock
        self._answers: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._asking: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """The answer. Raises what asking raises, to everybody who waits for it."""
        kept = self._answers.get(key)
        if kept is not None and self._clock() < kept[0]:
            self._answers.move_to_end(key)
            return kept[1]
        if key not in self._asking:
            asking = self._asking[key] = asyncio.create_task(self._asked(key))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(self._asking[key])  # a caller that goes away must not end it for the others

    async def _asked(self, key: K) -> V:
        answer = await self._ask(key)
        if self._worth_keeping(answer):
            self._answers[key] = (self._clock() + self._keep_s, answer)
            self._answers.move_to_end(key)
            if len(self._answers) > self._most:
                self._answers.popitem(last=False)
        return answer
