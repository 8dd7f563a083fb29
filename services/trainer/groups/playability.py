"""Judges from a job's first groups whether the job can be played at all. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.contracts.events import cause_key
from services.contracts.ids import Purpose
from services.trainer.errors import JobFailed

FIRST_GROUPS = 8
"""So many groups without one that could be played say that none can; a few tasks of a panel may be broken."""


class Playability:
    """Why groups were given up, and of which purposes one was played."""

    def __init__(self) -> None:
        self.last_cause = ""
        """Why the last group was given up; empty: none was."""
        self._crashes = 0
        self._played: set[Purpose] = set()
        self._causes: dict[str, str] = {}

    def played(self, purpose: Purpose) -> None:
        """A group of this purpose was played to its end."""
        self._played.add(purpose)

    def crashed(self, attempts: int) -> None:
        """Training groups were dropped after so many attempts that failed on what the policy did."""
        self._crashes += attempts

    def take_crashes(self) -> int:
        """Those attempts since this was asked last."""
        taken, self._crashes = self._crashes, 0
        return taken

    def given_up(self, causes: Mapping[str, str], purpose: Purpose, first: Sequence[str]) -> None:
        """Groups of one purpose were dropped.

        Args:
            causes: group id -> why.
            first: ids of the groups of this purpose that were opened first, <= FIRST_GROUPS.

        Raises:
            JobFailed: no group of this purpose was ever played, and the first FIRST_GROUPS were given up for one cause.
        """
        if causes:
            self.last_cause = list(causes.values())[-1]
        if purpose in self._played:
            return
        self._causes |= causes
        known = [self._causes[name] for name in first if name in self._causes]
        if len(known) >= FIRST_GROUPS and len({cause_key(cause) for cause in known}) == 1:
            raise JobFailed(f"none of the first {len(known)} groups ({purpose}) could be played: {known[-1]}")
