"""How environment code says that long work goes on: a worker that shows no life for `step_timeout_s` is killed as hung.

What sessions share, such as a catalogue and its index, is made within the first reset of a worker. That may take long,
on a busy machine or for much data, without being stuck.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def _nobody() -> None:
    """Outside a worker nobody watches."""


_watcher: Callable[[], None] = _nobody


def watched(parts: Iterable[T]) -> Iterator[T]:
    """The same parts, of which there is an end; each shows that the work on them goes on."""
    for part in parts:
        _watcher()
        yield part


def watched_by(watcher: Callable[[], None]) -> None:
    """Have `watcher` called from now on. A worker process does this once, when it starts."""
    global _watcher
    _watcher = watcher
