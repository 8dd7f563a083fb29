"""Joins the requests that many coroutines make within a few milliseconds into one message."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger("rollout")

K = TypeVar("K", bound=Hashable)
Q = TypeVar("Q")


class Coalescer(Generic[K, Q]):
    """Collects questions per key and hands them over together.

    Args:
        send: takes a key and 1..max_size questions, in the order they were added; it must answer for its errors.
        max_size: a full collection goes at once.
        delay_s: how long the first question of a collection may wait for others; 0: until the loop's next turn.
    """

    def __init__(
        self, send: Callable[[K, list[Q]], Coroutine[object, None, None]], *, max_size: int, delay_s: float
    ) -> None:
        self._send, self._max_size, self._delay_s = send, max_size, delay_s
        self._waiting: dict[K, list[Q]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def add(self, key: K, question: Q) -> None:
        """Have `question` sent with the next message of `key`."""
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = []
            loop = asyncio.get_running_loop()
            if self._delay_s:
                loop.call_later(self._delay_s, self._flush, key, waiting)
            else:
                loop.call_soon(self._flush, key, waiting)
        waiting.append(question)
        if len(waiting) >= self._max_size:
            self._flush(key, waiting)

    async def drain(self) -> None:
        """Send what is collected and wait until everything is sent."""
        for key, waiting in list(self._waiting.items()):
            self._flush(key, waiting)
        while self._sending:
            await asyncio.gather(*self._sending, return_exceptions=True)

    def _flush(self, key: K, questions: list[Q]) -> None:
        if self._waiting.get(key) is not questions:
            return  # the batch went before its time because it was full
        del self._waiting[key]
        task = asyncio.create_task(self._send(key, questions))
        self._sending.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:  # whoever asked runs into a time limit
            log.error("a message could not be sent", error=repr(error), exc_info=error)
