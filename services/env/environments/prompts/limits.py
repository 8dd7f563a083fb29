"""Limits on the time of one call that knows none itself: sympy's, and those of a user's own reward functions."""

import gc
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN_S = 0.05
"""Seconds until a limit that nobody heard raises again."""
_CLOCKS = {signal.SIGALRM: signal.ITIMER_REAL, signal.SIGVTALRM: signal.ITIMER_VIRTUAL}


@contextmanager
def limited(clock: signal.Signals, seconds: float, error: type[BaseException]) -> Iterator[None]:
    """Raise `error` inside after so many seconds: of the wall's clock for SIGALRM, of computing for SIGVTALRM.

    It is raised until it leaves the block, because Python drops an exception that meets a finalizer. The collector of
    cycles rests meanwhile, since it calls most of them. Signals reach the main thread alone, where environments run;
    in another thread there is no limit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = False

    def stop(*_: object) -> None:
        if not heard:
            raise error

    collects = gc.isenabled()
    before = signal.signal(clock, stop)
    gc.disable()
    signal.setitimer(_CLOCKS[clock], seconds, AGAIN_S)
    try:
        try:
            yield
        finally:
            heard = True
    finally:  # also where it was raised once more on the way out
        heard = True
        signal.setitimer(_CLOCKS[clock], 0)
        signal.signal(clock, before)
        if collects:
            gc.enable()
