"""Background tasks: they end with the block that started them, and the block ends when one of them fails."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager

import structlog

log = structlog.get_logger("kit")

ASK_AGAIN_S = 0.1
INTERRUPT_AGAIN_S = 5.0
"""Longer than cleaning up takes; one cancellation may get lost, see `ended`."""

Loop = Callable[[], Coroutine[object, None, None]]


class LoopEnded(RuntimeError):
    """A loop that was to run for ever returned."""


async def ended(tasks: Iterable[asyncio.Task[object]]) -> None:
    """Cancel the tasks and return when all have ended, however they did.

    One cancellation may not be enough: on Python 3.11 `asyncio.wait_for`, through which redis-py sends every command,
    loses one that arrives while the command has just been sent.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=ASK_AGAIN_S)


async def first_failure(loops: Collection[asyncio.Task[None]]) -> None:
    """Wait until one of the endless loops ends; log it and raise its error, or LoopEnded when it has none."""
    done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        name = task.get_coro().__qualname__  # type: ignore[union-attr]
        error = None if task.cancelled() else task.exception()
        log.error("a background task ended", task=name, error=repr(error), exc_info=error)
        raise error or LoopEnded(f"the background task {name} ended, although it should run for ever")


@asynccontextmanager
async def beside(*loops: Loop) -> AsyncIterator[None]:
    """Run endless loops while the block runs. When one of them ends, the block is cancelled and the cause is raised.

    A process whose `main` is such a block ends with the cause and exit status 1, for its supervisor to start it again.
    """
    block, interruptions = asyncio.current_task(), 0
    assert block is not None

    async def interrupt() -> None:
        nonlocal interruptions
        await asyncio.wait([failing])
        while True:
            interruptions += 1
            block.cancel()
            await asyncio.sleep(INTERRUPT_AGAIN_S)

    tasks = [asyncio.create_task(loop()) for loop in loops]
    failing = asyncio.create_task(first_failure(tasks))
    interrupting = asyncio.create_task(interrupt())
    try:
        yield
    except asyncio.CancelledError:
        if not interruptions:
            raise
    finally:
        broken = failing.done()
        await ended([interrupting, failing, *tasks])
        for _ in range(interruptions):
            block.uncancel()
    if broken:
        failing.result()


def ending_the_process(work: Callable[[], None]) -> Callable[[], None]:
    """`work` for a thread. An error in it would go unnoticed, so it is logged and ends the process with status 1."""

    def watched() -> None:
        try:
            work()
        except BaseException:
            log.exception("a background thread ended", thread=threading.current_thread().name)
            os._exit(1)

    return watched
