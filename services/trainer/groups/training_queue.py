"""The queue of training groups: which to open next, and which form the next batch. No I/O.

A batch has the groups that were opened first, or with `batch_order: arrival` those whose scores arrived first.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.contracts.job import JobSpec
from services.ledger import GroupState
from services.trainer.groups.admission import cursors_to_open


class TrainingQueue:
    """Training groups from their opening until their batch is cut or they are dropped.

    Args:
        next_cursor: cursors below it were opened by earlier trainers.
        lost: how many of those groups were dropped.
    """

    def __init__(self, spec: JobSpec, *, next_cursor: int = 0, lost: int = 0) -> None:
        self._spec, self.next_cursor, self.lost = spec, next_cursor, lost
        self._waiting: dict[int, str] = {}
        self._scored: dict[str, None] = {}
        """Scored groups among those under way, in order of arrival."""

    @property
    def cursors(self) -> list[int]:
        """Cursors of the groups under way, in order."""
        return list(self._waiting)

    def next_due(self, version: int) -> int | None:
        """The cursor to open next while policy `version` is the newest that a replica serves; None: none is due."""
        due = cursors_to_open(self._spec, version=version, next_cursor=self.next_cursor, lost=self.lost)
        return due[0] if due else None

    def opened(self, cursor: int, group_id: str, state: GroupState) -> None:
        """The ledger opened a group, or says what became of it when an earlier trainer did."""
        self.next_cursor = max(self.next_cursor, cursor + 1)
        if state is GroupState.DROPPED:
            self.lost += 1
        elif state not in (GroupState.ASSIGNED, GroupState.CONSUMED):  # those are trained, or are being replayed
            self._waiting[cursor] = group_id

    def unscored(self) -> set[str]:
        """Groups under way whose scores have not arrived, also those of later batches."""
        return set(self._waiting.values()) - self._scored.keys()

    def missing(self) -> list[str]:
        """Groups that the next batch waits for, in order of cursor."""
        return [name for name in self._next() if name not in self._scored]

    def passed_over(self, group_ids: Iterable[str]) -> int:
        """Groups under way that were opened before the last one of these, and are not among them."""
        names = set(group_ids)
        last = max((cursor for cursor, name in self._waiting.items() if name in names), default=-1)
        return sum(cursor < last and name not in names for cursor, name in self._waiting.items())

    def next_batch(self) -> list[str] | None:
        """The groups of the next batch, in order of cursor; None: one of them has no scores, or is not opened yet."""
        wanted = self._next()
        return None if self.missing() or len(wanted) < self._spec.rollout.groups_per_batch else wanted

    def scored(self, group_ids: Iterable[str]) -> None:
        """The scores of these groups have arrived, all at one moment."""
        arrived = set(group_ids)
        self._scored.update(dict.fromkeys(name for name in self._waiting.values() if name in arrived))

    def lose(self, group_id: str) -> int:
        """A group was dropped: its place goes to one more cursor. Its own one."""
        self.lost += 1
        return self._remove(group_id)

    def cut(self, group_ids: Iterable[str]) -> None:
        """These groups were assigned to a batch."""
        for group_id in group_ids:
            self._remove(group_id)

    def _next(self) -> list[str]:
        """List groups in order of cursor; by arrival the scored ones first, and of the others those opened first."""
        size, names = self._spec.rollout.groups_per_batch, list(self._waiting.values())
        if self._spec.rollout.batch_order == "cursor":
            return names[:size]
        chosen = set([*self._scored, *(name for name in names if name not in self._scored)][:size])
        return [name for name in names if name in chosen]

    def _remove(self, group_id: str) -> int:
        cursor = next(cursor for cursor, name in self._waiting.items() if name == group_id)
        del self._waiting[cursor]
        self._scored.pop(group_id, None)
        return cursor
