"""Time limits on one call of code that has none: sympy, and a user's own reward functions."""

import gc
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN_S = 0.05
"""Seconds until a limit is raised again, where Python dropped its exception."""
_CLOCKS = {signal.SIGALRM: signal.ITIMER_REAL, signal.SIGVTALRM: signal.ITIMER_VIRTUAL}


@contextmanager
def limited(clock: signal.Signals, seconds: float, error: type[BaseException]) -> Iterator[None]:
    """Raise `error` inside the block after so many seconds: of wall time for SIGALRM, of CPU time for SIGVTALRM.

    It is raised again until it leaves the block, because Python drops an exception that is raised inside a finalizer.
    Garbage collection is off meanwhile, because it calls most finalizers. Signals reach the main thread only, where
    environments run; in another thread there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ended = False

    def stop(*_: object) -> None:
        if not ended:
            raise error

    collects = gc.isenabled()
    before = signal.signal(clock, stop)
    gc.disable()
    signal.setitimer(_CLOCKS[clock], seconds, AGAIN_S)
    try:
        try:
            yield
        finally:
            ended = True
    finally:  # this holds also where it was raised once more on the way out
        ended = True
        signal.setitimer(_CLOCKS[clock], 0)
        signal.signal(clock, before)
        if collects:
            gc.enable()
