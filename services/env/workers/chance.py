"""The global random numbers of the sessions of one worker: each session has its own, so that none disturbs another.

Many environments draw from `random` and `numpy.random` without a generator of their own. A session's numbers begin from
its seed, so that a replay draws them again. Environments that never draw are spared the cost, .04 ms a call.
"""

import pickle
import random
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

SPARED_AFTER = 100
"""Calls without a draw, after which an environment is taken for one that has generators of its own."""
NOTHING = nullcontext()
LOOKED_AT = 16
"""One of so many sessions of such an environment is examined when it ends: has it drawn after all?"""


@dataclass
class Generators:
    """The state of the global generators: `random`'s own, and the bit generator behind `numpy.random`.

    The bit generator is exchanged as a whole, which takes no time; `random` has only the one, whose state is copied.
    """

    own: Any
    numpy: Any = None
    """None: NumPy is not imported."""

    @staticmethod
    def now() -> "Generators":
        """Those that are in use."""
        numpy = _numpy()
        return Generators(random.getstate(), None if numpy is None else numpy.get_bit_generator())

    @staticmethod
    def seeded(start: str) -> "Generators":
        """New ones, whose numbers follow from `start`."""
        begun = random.Random(start)
        numpy = _numpy()
        return Generators(begun.getstate(), None if numpy is None else numpy.MT19937(begun.getrandbits(32)))

    def use(self) -> None:
        """Make these the global ones. The second number of a pair that `numpy.random.normal` kept is dropped."""
        random.setstate(self.own)
        if self.numpy is not None:
            _numpy().set_bit_generator(self.numpy)

    def place(self) -> tuple[Any, bytes]:
        """The part that changes with every draw."""
        return self.own, b"" if self.numpy is None else pickle.dumps(self.numpy.state)


class Chance:
    """Keeps the global generators of each session while others are stepped."""

    def __init__(self) -> None:
        self._sessions: dict[int, Generators] = {}
        self._environments: dict[int, str] = {}
        self._silent_calls: dict[str, int] = {}
        """Calls in a row without a draw, by environment, of those that have never drawn."""
        self._drawing: set[str] = set()
        self._idle = Generators.now()
        """Those in use while no session's are."""
        self._idle_place = self._idle.place()
        self._ended = 0

    @contextmanager
    def of_new(self, session: int, environment: str, start: str) -> Iterator[None]:
        """Use the global generators of a new session inside the block; their numbers follow from `start`."""
        self._environments[session] = environment
        if not self._spared(environment):
            self._sessions[session] = Generators.seeded(start)
        with self.of(session):
            yield

    def of(self, session: int) -> AbstractContextManager[None]:
        """Use the global generators of this session inside the block. To be entered once a call of the environment,
        also in a replay: see `Generators.use`."""
        return self._exchanged(session) if session in self._sessions else NOTHING

    @contextmanager
    def _exchanged(self, session: int) -> Iterator[None]:
        mine, environment = self._sessions[session], self._environments[session]
        before = None if environment in self._drawing else mine.place()
        mine.use()
        try:
            yield
        finally:
            self._sessions[session] = mine = Generators.now()
            if before is not None:
                self._note(environment, drew=before != mine.place())
            self._idle.use()

    def forget(self, session: int) -> None:
        """The session is over."""
        environment = self._environments.pop(session, None)
        if self._sessions.pop(session, None) is not None or environment is None:
            return
        self._ended += 1
        if self._ended % LOOKED_AT == 0:
            idle = Generators.now()
            if (place := idle.place()) != self._idle_place:
                self._note(environment, drew=True)
                self._idle, self._idle_place = idle, place

    def _spared(self, environment: str) -> bool:
        return environment not in self._drawing and self._silent_calls.get(environment, 0) >= SPARED_AFTER

    def _note(self, environment: str, *, drew: bool) -> None:
        if drew:
            self._drawing.add(environment)
        self._silent_calls[environment] = self._silent_calls.get(environment, 0) + 1


def _numpy() -> Any:
    """`numpy.random`, which NumPy imports when it is first asked for; None: nobody has imported NumPy."""
    return import_module("numpy.random") if "numpy" in sys.modules else None
