"""Evaluates the groups that left the pipeline: which were dropped, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.contracts.faults import FaultClass
from services.contracts.ids import Purpose
from services.ledger import GroupState
from services.trainer.session.session import Session

_UNKNOWN = "no cause is known"


async def note_arrivals(
    session: Session, arrived: Mapping[str, GroupState], purpose: Purpose, first: Sequence[str]
) -> dict[str, str]:
    """Learn from groups of one purpose that left the pipeline; those that were dropped, with their causes.

    Args:
        first: ids of the groups of this purpose that were opened first, <= FIRST_GROUPS.

    Raises:
        JobFailed: see `Playability.given_up`.
    """
    dropped = [name for name, state in arrived.items() if state is GroupState.DROPPED]
    causes = {name: await _cause(session, name) for name in dropped}
    if purpose == "train":
        session.playability.crashed(sum([await crashes_of(session, name) for name in dropped]))
    played_before = session.progress.batch > 0 or (purpose == "eval" and bool(session.evaluations))
    if len(causes) < len(arrived) or played_before:
        session.playability.played(purpose)
    session.playability.given_up(causes, purpose, first)
    return causes


async def crashes_of(session: Session, name: str) -> int:
    """Attempts of a dropped group that failed because the environment crashed on what the policy did."""
    record = await session.ledger.record_of(name)
    crashed = record is not None and (record.cause or "").startswith(f"environment {FaultClass.ENV_BUG}")
    return record.redrawn if record is not None and crashed else 0


async def last_trouble(session: Session, since_unix_s: float) -> str:
    """`; the last trouble: ...`, or nothing where there was none since that instant."""
    cause = await session.events.last_cause(since_unix_s)
    return f"; the last trouble: {cause}" if cause else ""


async def _cause(session: Session, name: str) -> str:
    record = await session.ledger.record_of(name)
    return session.arrivals.causes.get(name) or (record.cause if record else None) or _UNKNOWN
