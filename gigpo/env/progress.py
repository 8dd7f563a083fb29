"""Progress reports of environment code in long work: a worker without one for `step_timeout_s` is killed as hung.

Data that sessions share, such as a catalogue and its index, is built within a worker's first reset. On a busy machine
or with much data that may take long without being stuck.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def _nobody(unseen_s: float) -> None:
    """Outside a worker nobody watches."""


_watcher: Callable[[float], None] = _nobody


def report_each(parts: Iterable[T]) -> Iterator[T]:
    """The same parts, of which there is an end; each shows that the work on them goes on."""
    for part in parts:
        _watcher(0.0)
        yield part


@contextlib.contextmanager
def allow_silence(at_most_s: float) -> Iterator[None]:
    """Work in one piece, such as a call into C, that shows no life until it is done: it is given so long, seconds, or
    the usual time where that is longer."""
    _watcher(at_most_s)
    try:
        yield
    finally:
        _watcher(0.0)


def set_reporter(watcher: Callable[[float], None]) -> None:
    """Have `watcher` called from now on, with the time for which no further sign is to be expected, seconds. A worker
    process does this once, when it starts."""
    global _watcher
    _watcher = watcher
