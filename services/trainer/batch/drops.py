"""Groups that could not be played: why, and whether anything of this job ever could."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.contracts.events import cause_key
from services.contracts.ids import Purpose
from services.ledger import GroupState
from services.trainer.job.errors import JobFailed
from services.trainer.job.session import Session

FIRST_GROUPS = 8
"""So many groups without one that could be played say that none can; a few tasks of a panel may be broken."""
_UNKNOWN = "no cause is known"


async def note_arrivals(
    session: Session, arrived: Mapping[str, GroupState], purpose: Purpose, first: Sequence[str]
) -> dict[str, str]:
    """Learn from groups of one purpose that left the pipeline; those that were dropped, with their causes.

    Args:
        first: ids of the groups of this purpose that were opened first, <= FIRST_GROUPS.

    Raises:
        JobFailed: no group of this purpose was ever played, and the first FIRST_GROUPS were given up for one cause.
    """
    causes = {name: await _cause(session, name) for name, state in arrived.items() if state is GroupState.DROPPED}
    if causes:
        session.last_cause = list(causes.values())[-1]
    if len(causes) < len(arrived):
        session.played.add(purpose)
    if purpose in session.played or session.progress.batch > 0 or (purpose == "eval" and session.evaluations):
        return causes
    session.dropped |= causes
    known = [session.dropped[name] for name in first if name in session.dropped]
    if len(known) >= FIRST_GROUPS and len({cause_key(cause) for cause in known}) == 1:
        raise JobFailed(f"not one of the first {len(known)} groups ({purpose}) could be played: {known[-1]}")
    return causes


async def last_trouble(session: Session, since_unix_s: float) -> str:
    """`; the last trouble: ...`, or nothing where there was none since that instant."""
    cause = await session.events.last_cause(since_unix_s)
    return f"; the last trouble: {cause}" if cause else ""


async def _cause(session: Session, name: str) -> str:
    record = await session.ledger.record_of(name)
    return session.arrivals.causes.get(name) or (record.cause if record else None) or _UNKNOWN
