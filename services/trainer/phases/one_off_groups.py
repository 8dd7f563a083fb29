"""Groups that are played once and not trained in batches: those of evaluations and of the warm start."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from services.contracts.messages import OpenedGroup
from services.ledger import DropReason, GroupState, MoveRefused
from services.trainer.batch.drops import last_trouble, note_arrivals
from services.trainer.errors import JobFailed
from services.trainer.groups.payloads import Payload
from services.trainer.groups.playability import FIRST_GROUPS, check_broken
from services.trainer.groups.settlement import Settlement
from services.trainer.replicas.room import check_capacity
from services.trainer.session.deadline import Deadline
from services.trainer.session.opening import open_group
from services.trainer.session.session import Session

CHUNK = 256
"""Groups moved by one script: a longer one would hold up everybody else on the server."""


async def gather(
    session: Session,
    groups: Sequence[OpenedGroup],
    what: str,
    arrived_so_far: Callable[[int], Awaitable[None]] | None = None,
) -> list[Payload]:
    """Open groups, wait until each is scored, and return their payloads in the order given.

    A group that was dropped is left out. One that is consumed already counts as dropped. `arrived_so_far` is told how
    many are scored or dropped, whenever that has changed.

    Raises:
        JobFailed: nothing arrived for batch_timeout_s, or nothing can be played.
        TooManyBroken: see `check_broken`.
        NoReplicaFree: nothing arrived, and each live replica serves another job.
        CancelRequested, PauseRequested, DrainRequested, StaleEpoch.
    """
    states: dict[str, GroupState] = {}
    dropped: dict[DropReason, list[str]] = {}
    first, began_unix_s = [group.group_id for group in groups[:FIRST_GROUPS]], time.time()
    for group in groups:
        await open_group(session, group)
    missing = {group.group_id for group in groups}
    deadline = Deadline(session.spec.limits.batch_timeout_s)
    while missing:
        arrived = await session.arrivals.wait(session.epoch, missing)
        if arrived:
            deadline.restart()
        elif deadline.passed:
            await check_capacity(session.redis, session.job)
            raise JobFailed(
                f"{what}: {len(missing)} of {len(groups)} groups are missing, and none arrived within "
                f"batch_timeout_s = {session.spec.limits.batch_timeout_s:g} s; the first is {min(missing)}"
                f"{await last_trouble(session, began_unix_s)}"
            )
        states |= arrived
        for drop in (await note_arrivals(session, arrived, groups[0].purpose, first)).values():
            dropped.setdefault(drop.reason, []).append(drop.cause)
            check_broken(dropped, len(groups), f"episodes ({what})")
        missing -= arrived.keys()
        if arrived and arrived_so_far is not None:
            await arrived_so_far(len(groups) - len(missing))
        await session.commands.check()
    there = [group.group_id for group in groups if states[group.group_id] in (GroupState.SCORED, GroupState.ASSIGNED)]
    if len(there) < len(groups):
        lost = f"{what}: {len(groups) - len(there)} of {len(groups)} groups were dropped"
        await session.events.warn(f"{lost}, the last one: {session.playability.last_cause or 'it was dropped before'}")
    return await session.stored.load(there)


async def consume_gathered(session: Session, settlement: Settlement, group_ids: Sequence[str]) -> None:
    """The groups' effect is durable: free their payloads. Repeatable after a crash at any point."""
    for chunk, start in enumerate(range(0, len(group_ids), CHUNK)):
        names, number = group_ids[start : start + CHUNK], settlement.batch_number(chunk)
        states = await session.arrivals.states(names)
        scored = [name for name in names if states.get(name) is GroupState.SCORED]
        if scored:
            await session.ledger.assign(session.epoch, number, "{}", scored)
        assigned = [name for name in names if name in scored or states.get(name) is GroupState.ASSIGNED]
        try:
            await session.ledger.consume(session.epoch, number, assigned)
        except MoveRefused as error:
            raise JobFailed(f"the ledger refused to consume groups {assigned[0]}...: {error}") from error


async def settle_results(session: Session, settlement: Settlement, group_ids: Sequence[str]) -> None:
    """The groups' results are on disk: count those that Redis has lost since then. Repeatable."""
    for chunk, start in enumerate(range(0, len(group_ids), CHUNK)):
        names = group_ids[start : start + CHUNK]
        await session.ledger.settle(session.epoch, settlement.batch_number(chunk), names)
