"""A limit ends a call whatever takes its first exception, and leaves everything as it was."""

import gc
import signal
import threading
import time
from collections.abc import Callable

import pytest

from services.env.environments.prompts.limits import limited


class _Over(BaseException):
    pass


class _Computes:
    """Computes for up to 5 s while it is destroyed, where Python drops exceptions."""

    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    def __del__(self) -> None:
        try:
            compute()
        except _Over:
            self.heard.append("destroyed")
            raise


def compute() -> None:
    end = time.process_time() + 5
    while time.process_time() < end:
        pass


def _call(clock: signal.Signals, function: Callable[[], None]) -> None:
    with limited(clock, 0.01, _Over):
        function()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("clock", [signal.SIGALRM, signal.SIGVTALRM])
def test_a_limit_that_a_finalizer_takes_is_raised_again(clock):
    heard: list[str] = []

    def destroy_and_compute() -> None:
        _Computes(heard)
        heard.append("went on")
        compute()
        heard.append("not limited")

    with pytest.raises(_Over):
        _call(clock, destroy_and_compute)
    assert heard == ["destroyed", "went on"]


def test_the_collector_calls_nothing_inside_and_works_again_afterwards():
    called = []
    gc.callbacks.append(lambda phase, _: called.append(phase))
    try:
        with limited(signal.SIGVTALRM, 60, _Over):
            before = len(called)
            kept = [[] for _ in range(10_000)]
            assert len(called) == before
        assert gc.isenabled()
        assert len(kept) == 10_000
    finally:
        gc.callbacks.pop()


@pytest.mark.parametrize("clock", [signal.SIGALRM, signal.SIGVTALRM])
def test_nothing_of_a_limit_is_left_behind(clock):
    timer = {signal.SIGALRM: signal.ITIMER_REAL, signal.SIGVTALRM: signal.ITIMER_VIRTUAL}[clock]
    handler = signal.getsignal(clock)
    with pytest.raises(_Over):
        _call(clock, compute)
    assert signal.getsignal(clock) is handler
    assert signal.getitimer(timer) == (0.0, 0.0)
    assert gc.isenabled()


def test_a_call_in_another_thread_has_no_limit():
    ended = []

    def call() -> None:
        with limited(signal.SIGVTALRM, 0.001, _Over):
            ended.append(True)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert ended == [True]
