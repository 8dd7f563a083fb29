"""The global random numbers of the sessions of one worker: each session has its own, so that none disturbs another.

Many environments draw from `random` and `numpy.random` without a generator of their own. A session's numbers begin from
its seed, so that a replay draws them again. Keeping them costs .4 ms a step: environments that never draw are spared.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

SPARED_AFTER = 100
"""Calls without a draw, after which an environment is taken for one that has generators of its own."""
LOOKED_AT = 16
"""Of so many sessions of such an environment one is looked at, when it ends: has it drawn after all?"""
State = tuple[Any, tuple[Any, ...] | None]
"""Of `random`, and of `numpy.random`; None: NumPy is not imported."""


class Chance:
    """Keeps the state of the global generators of each session while others are stepped."""

    def __init__(self) -> None:
        self._states: dict[int, State] = {}
        self._environments: dict[int, str] = {}
        self._silent_calls: dict[str, int] = {}
        """By environment, of those that have never drawn."""
        self._drawing: set[str] = set()
        self._idle = _state()
        """What the generators say while nobody's state is in them."""
        self._ended = 0

    @contextmanager
    def of_new(self, session: int, environment: str, start: str) -> Iterator[None]:
        """Within it the global generators are those of a new session, whose numbers follow from `start`."""
        self._environments[session] = environment
        if not self._spared(environment):
            self._states[session] = _seeded(start)
        with self.of(session):
            yield

    @contextmanager
    def of(self, session: int) -> Iterator[None]:
        """Within it the global generators are those of this session."""
        if (before := self._states.get(session)) is None:
            yield
            return
        _restore(before)
        try:
            yield
        finally:
            after = self._states[session] = _state()
            self._note(self._environments[session], drew=not _equal(before, after))
            _restore(self._idle)

    def forget(self, session: int) -> None:
        """The session is over."""
        environment = self._environments.pop(session, None)
        if self._states.pop(session, None) is not None or environment is None:
            return
        self._ended += 1
        if self._ended % LOOKED_AT == 0 and not _equal(self._idle, _state()):
            self._note(environment, drew=True)
            self._idle = _state()

    def _spared(self, environment: str) -> bool:
        return environment not in self._drawing and self._silent_calls.get(environment, 0) >= SPARED_AFTER

    def _note(self, environment: str, *, drew: bool) -> None:
        if drew:
            self._drawing.add(environment)
        self._silent_calls[environment] = self._silent_calls.get(environment, 0) + 1


def _seeded(start: str) -> State:
    begun = random.Random(start)
    numpy = _numpy()
    own = begun.getstate()
    return own, None if numpy is None else numpy.RandomState(begun.getrandbits(32)).get_state()


def _state() -> State:
    numpy = _numpy()
    return random.getstate(), None if numpy is None else numpy.get_state()


def _restore(state: State) -> None:
    own, theirs = state
    random.setstate(own)
    if theirs is not None:
        _numpy().set_state(theirs)


def _numpy() -> Any:
    """`numpy.random`, which NumPy imports when it is first asked for; None: nobody has imported NumPy."""
    return import_module("numpy.random") if "numpy" in sys.modules else None


def _equal(one: State, other: State) -> bool:
    if one[0] != other[0]:
        return False
    mine, theirs = one[1], other[1]
    if mine is None or theirs is None:
        return mine is theirs
    return mine[2:] == theirs[2:] and bool((mine[1] == theirs[1]).all())
