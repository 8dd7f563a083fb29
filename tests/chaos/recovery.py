"""When the platform has recovered from a fault, decided from two looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.ledger.states import GroupState
from tests.chaos.faults import EPISODE_SERVICES, Fault

UNPLAYED = frozenset({GroupState.OPEN, GroupState.GENERATING})
UNSCORED = UNPLAYED | {GroupState.COMPLETE}


@dataclass(frozen=True)
class Look:
    """The job at one instant. None: who could tell was away."""

    batch: int = 0
    """Batches trained so far."""
    live: Mapping[str, GroupState] | None = None
    """Group -> state, of those that are neither consumed nor dropped."""
    balanced: bool | None = None
    poison: int = 0
    """Entries that were added as poison and still stand in their stream."""
    api: bool | None = None
    """Whether the API tells the job's state."""
    ended: bool = False


def recovered(fault: Fault, before: Look, now: Look) -> bool:
    """Whether everything that the fault touched is done.

    Of what episodes need: every group that was being played has all its episodes. Of the advantage service: they are
    scored. Of the API: it answers. Of a pair: all that each of the two touched. Of everything else, and where nothing
    was played at that moment: the next batch is trained. Nobody reads the streams of an ended job: poison that came
    with its last batch is over then.
    """
    if fault.kind == "pair":
        parts = fault.service.split("+")
        return all(recovered(replace(fault, kind="kill", service=part), before, now) for part in parts)
    if fault.kind == "poison":
        unread = now.poison > 0 and not (now.ended and now.batch <= before.batch + 1)
        return not unread and (now.ended or now.batch > before.batch)
    if fault.service == "api":
        return now.api is True
    if now.ended:
        return True
    waiting = UNSCORED if fault.service == "advantage" else UNPLAYED
    under_way = groups_in(before, waiting)
    if fault.service in (*EPISODE_SERVICES, "advantage") and under_way:
        return now.live is not None and not under_way & groups_in(now, waiting)
    return now.batch > before.batch


def groups_in(look: Look, states: frozenset[GroupState]) -> set[str]:
    """Ids of the live groups in one of the states."""
    return {name for name, state in (look.live or {}).items() if state in states}


@dataclass
class Struck:
    """A fault that happened."""

    fault: Fault
    before: Look
    ended_s: float
    """When it was over: a killed process is dead, a stopped one goes on. Seconds on a clock that only grows."""
    recovered_in_s: float | None = None
    """From then on; None: not yet, or never."""
    notes: list[str] = field(default_factory=list)

    def see(self, now: Look, at_s: float) -> bool:
        """Take a look into account; True: with it the platform has recovered, and not before."""
        if self.recovered_in_s is not None or not recovered(self.fault, self.before, now):
            return False
        self.recovered_in_s = round(max(at_s - self.ended_s, 0.0), 2)
        return True
