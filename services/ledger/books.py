"""The ledger as a checkpoint keeps it, so that what Redis loses can be told from what was trained.

A Redis that loses the end of its append-only file comes back with the ledger of an earlier instant. When that lies
before the newest checkpoint, the checkpoint's groups would count as live, or not at all, although they were trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from services.contracts.ids import purpose_of
from services.ledger.states import GroupState

SEAL = "seal"
"""Field of the counters: how many checkpoints were begun. The ledger of an earlier instant has a lower one."""


class Books(msgspec.Struct, frozen=True):
    """A job's ledger at one instant."""

    job: str = ""
    """The job of the ledger; a job that takes a checkpoint over from another job has a ledger of its own."""
    counters: dict[str, int] = {}
    """The counters as in Redis, with the seal."""
    live: list[str] = []
    trained: list[str] = []
    """The live groups whose effect the checkpoint holds."""

    @property
    def seal(self) -> int:
        """0: nothing was sealed."""
        return self.counters.get(SEAL, 0)


@dataclass(frozen=True)
class Correction:
    """How the ledger of an earlier instant comes to that of the books."""

    counters: dict[str, int]
    forgotten: list[str]
    """Groups that the counters count as ended, or that will be opened again."""


def correction(books: Books, states: Mapping[str, GroupState | None]) -> Correction:
    """The needed change.

    Args:
        states: of every group that is live in Redis or in the books; None: Redis does not know it.
    """
    trained = {name for name in books.trained if states[name] is not GroupState.ASSIGNED}
    unopened = {name for name in books.live if states[name] is None} - trained
    counters = dict(books.counters)
    _add(counters, "consumed", trained, 1)
    _add(counters, "opened", unopened, -1)  # whoever waits for them opens them again
    kept = set(books.live) - trained - unopened
    return Correction(counters, sorted(states.keys() - kept))


def _add(counters: dict[str, int], name: str, groups: Iterable[str], change: int) -> None:
    for group in groups:
        for field in (name, f"{name}:{purpose_of(group)}"):
            counters[field] = counters.get(field, 0) + change
