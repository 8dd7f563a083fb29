"""Tables of states, read from the archives of jobs and cached in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from services.api.artifacts.rollouts import Archive, archives_of, readable
from services.api.insight.state_table import Place, StateTable, merged, table_of
from services.api.rest.problems import Problem
from services.contracts.archive import encoded_groups
from services.contracts.rest.insight import PlayedBatches, StepPlace
from services.contracts.rest.rollouts import RolloutPurpose

MOST_BATCHES = 100
"""Archives that one answer reads."""
KNOWN_EVALUATIONS = 2
"""The newest ones that are looked at beside training batches: held-out tasks are met there alone."""
_KEPT_TABLES = 32
"""Some megabytes each where anchors are long."""
_OWN_LABELS = frozenset({"before", "during", "after"})
"""Evaluations in which the policy itself plays, its task shown."""


@dataclass(frozen=True)
class Wanted:
    """Which stored batches of a job."""

    purpose: RolloutPurpose = "training"
    first: int | None = None
    """Smallest number of a batch; of evaluations the policy version. None: no bound."""
    last: int | None = None
    newest: int = MOST_BATCHES
    """At most so many of them, the newest ones."""
    oldest: bool = False
    """The oldest ones instead."""

    def of(self, archives: Sequence[Archive]) -> list[Archive]:
        """Those of a job's archives that are wanted, in order."""
        found = [one for one in archives if self._takes(one)]
        count = min(self.newest, MOST_BATCHES)
        return found[:count] if self.oldest else found[-count:]

    def _takes(self, archive: Archive) -> bool:
        fits = archive.label is None if self.purpose == "training" else archive.label in _OWN_LABELS
        above = self.first is None or archive.batch >= self.first
        return fits and above and (self.last is None or archive.batch <= self.last)


def sides(
    from_batch: int | None, to_batch: int | None, width: int, purpose: RolloutPurpose, *, of_one_job: bool
) -> tuple[Wanted, Wanted]:
    """Which batches are compared: `width` from `from_batch` on, and `width` up to `to_batch`."""
    if of_one_job:
        before = Wanted(purpose, first=from_batch, newest=width, oldest=True)
    else:
        before = Wanted(purpose, last=from_batch, newest=width)
    return before, Wanted(purpose, last=to_batch, newest=width)


@dataclass(frozen=True)
class Played:
    """The play of one job in some of its batches."""

    job_id: str
    purpose: RolloutPurpose
    batches: list[int]
    table: StateTable

    def document(self) -> PlayedBatches:
        """Its description, without the states."""
        table = self.table
        return PlayedBatches(
            job_id=self.job_id,
            purpose=self.purpose,
            batches=self.batches,
            episodes=table.episodes,
            success=table.won / table.episodes if table.episodes else None,
            steps=table.steps,
            states=len(table.states),
        )

    def place(self, place: Place) -> StepPlace:
        """A step of this job as a document."""
        return StepPlace(
            job_id=self.job_id,
            batch=place.batch,
            group_id=place.group_id,
            k=place.k,
            step_index=place.step_index,
        )


class StateTables:
    """The tables of all jobs' archives; safe to use from several threads."""

    def __init__(self) -> None:
        self._tables: OrderedDict[tuple[Path, int, int], StateTable] = OrderedDict()
        self._lock = threading.Lock()

    def played(self, job_id: str, folder: Path, wanted: Wanted) -> Played:
        """The states of some of a job's batches. Raises Problem 404: none of them is stored."""
        archives = wanted.of(archives_of(folder))
        if not archives:
            bounds = (
                f"{'any' if wanted.first is None else wanted.first}-{'any' if wanted.last is None else wanted.last}"
            )
            raise Problem(404, f"job {job_id} has no stored {wanted.purpose} rollouts of batches {bounds}")
        table = merged(self._table(one) for one in archives)
        return Played(job_id, wanted.purpose, [one.batch for one in archives], table)

    def known(self, job_id: str, folder: Path, newest: int) -> Played | None:
        """The states of the job's newest batches and evaluations together; None: nothing is stored."""
        found = []
        for wanted in (Wanted("evaluation", newest=KNOWN_EVALUATIONS), Wanted(newest=newest)):
            with suppress(Problem):
                found.append(self.played(job_id, folder, wanted))
        if not found:
            return None
        last = found[-1]
        return Played(job_id, last.purpose, last.batches, merged(one.table for one in found))

    def _table(self, archive: Archive) -> StateTable:
        with readable(archive.path):
            state = archive.path.stat()  # a batch that is trained again is another file of the same name
            key = archive.path, state.st_mtime_ns, state.st_size
            with self._lock:
                if (kept := self._tables.get(key)) is not None:
                    self._tables.move_to_end(key)
                    return kept
            table = table_of(archive.batch, encoded_groups(archive.path))
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > _KEPT_TABLES:
                self._tables.popitem(last=False)
        return table


def newest_place(tallies: Iterable[Place]) -> Place:
    """The place of the newest batch among at least one."""
    return max(tallies, key=lambda one: one.batch)
