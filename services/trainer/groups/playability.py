"""Judges from a job's groups whether the job can be played. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.contracts.events import cause_key
from services.contracts.ids import Purpose
from services.ledger import DropReason
from services.trainer.errors import JobFailed

FIRST_GROUPS = 8
"""Groups without a playable one that prove that none can be played; a few tasks of a panel may be broken."""
MOST_BROKEN = 0.1
"""Largest share of groups that the environment's own failures may cost. With three attempts a group, about half of all
attempts failed then, and what is left over shows another task than the one that was meant."""
FEWEST_BROKEN = 8
"""Fewer never end a job: a share of a few groups says little."""
NEWEST_GROUPS = 200
"""Training groups that the share is taken of, so that an environment that breaks late is found too."""
BROKEN = {
    DropReason.ENV_BUG: "the environment's own code failed in {}",
    DropReason.UNPLAYABLE: "the environment's texts cannot be played under the job's settings in {}",
}
"""Drops that no other machine would have spared."""


class TooManyBroken(JobFailed):
    """The environment's own failures cost too many groups."""


def check_broken(causes: Mapping[DropReason, Sequence[str]], groups: int, what: str) -> None:
    """Fail a job of whose groups too many were dropped for a reason in `BROKEN`.

    Args:
        causes: of the dropped groups, by reason.
        groups: how many were opened, the dropped ones among them.
        what: they are, such as "training groups".

    Raises:
        TooManyBroken: names the reason with the most groups, and the last cause.
    """
    broken = {reason: found for reason, found in causes.items() if reason in BROKEN and found}
    count = sum(map(len, broken.values()))
    if count < FEWEST_BROKEN or count <= MOST_BROKEN * groups:
        return
    reason = max(broken, key=lambda one: len(broken[one]))
    share = f"{count} of {groups} {what} ({count / groups:.1%}, at most {MOST_BROKEN:.0%} may)"
    raise TooManyBroken(f"{BROKEN[reason].format(share)}, the last time: {broken[reason][-1]}")


class Playability:
    """Why groups were given up, and of which purposes one was played."""

    def __init__(self) -> None:
        self.last_cause = ""
        """Why the last group was given up; empty: none was."""
        self.last_broken = ""
        """The same of the last one that was dropped for a reason in `BROKEN`."""
        self._crashes = 0
        self._played: set[Purpose] = set()
        self._causes: dict[str, str] = {}
        self._broken: list[tuple[int, DropReason, str]] = []

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

    def broken(self, cursor: int, reason: DropReason, cause: str, *, opened: int, under_way: int) -> None:
        """A training group was dropped.

        Args:
            opened: training groups that were opened so far.
            under_way: of these, those whose end is not known yet; they count as played.

        Raises:
            TooManyBroken: among the newest groups.
        """
        newest = max(NEWEST_GROUPS, 2 * under_way)
        self._broken = [one for one in [*self._broken, (cursor, reason, cause)] if one[0] >= opened - newest]
        causes: dict[DropReason, list[str]] = {}
        for _, kind, said in self._broken:
            causes.setdefault(kind, []).append(said)
        check_broken(causes, min(opened, newest), "training groups")
