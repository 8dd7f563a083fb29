"""Evaluates the groups that left the pipeline: which were dropped, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.contracts.faults import FaultClass
from services.contracts.ids import Purpose
from services.ledger import DropReason, GroupState
from services.trainer.groups.playability import BROKEN
from services.trainer.session.session import Session

_UNKNOWN = "no cause is known"


@dataclass(frozen=True)
class Drop:
    """Why a group was dropped."""

    reason: DropReason
    cause: str
    """One sentence."""


async def note_arrivals(
    session: Session, arrived: Mapping[str, GroupState], purpose: Purpose, first: Sequence[str]
) -> dict[str, Drop]:
    """Learn from groups of one purpose that left the pipeline; those that were dropped, and why.

    Args:
        first: ids of the groups of this purpose that were opened first, <= FIRST_GROUPS.

    Raises:
        JobFailed: see `Playability.given_up`.
    """
    dropped = [name for name, state in arrived.items() if state is GroupState.DROPPED]
    drops = {name: await _drop(session, name) for name in dropped}
    if purpose == Purpose.TRAINING:
        session.playability.crashed(sum([await crashes_of(session, name) for name in dropped]))
    played_before = session.progress.batch > 0 or (purpose == Purpose.EVALUATION and bool(session.evaluations))
    if len(drops) < len(arrived) or played_before:
        session.playability.played(purpose)
    session.playability.last_broken = next(
        (drop.cause for drop in drops.values() if drop.reason in BROKEN), session.playability.last_broken
    )
    session.playability.given_up({name: drop.cause for name, drop in drops.items()}, purpose, first)
    return drops


async def crashes_of(session: Session, name: str) -> int:
    """Attempts of a dropped group that failed because the environment crashed on what the policy did."""
    record = await session.ledger.record_of(name)
    crashed = record is not None and (record.cause or "").startswith(f"environment {FaultClass.ENV_BUG}")
    return record.redrawn if record is not None and crashed else 0


async def last_trouble(session: Session, since_unix_s: float) -> str:
    """`; the last trouble: ...`, or nothing where there was none since that instant."""
    cause = await session.events.last_cause(since_unix_s)
    return f"; the last trouble: {cause}" if cause else ""


async def _drop(session: Session, name: str) -> Drop:
    record = await session.ledger.record_of(name)
    cause = session.arrivals.causes.get(name) or (record.cause if record else None) or _UNKNOWN
    known = record is not None and record.reason in {reason.value for reason in DropReason}
    return Drop(DropReason(str(record.reason)) if record is not None and known else DropReason.INFRA, cause)
