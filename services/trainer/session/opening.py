"""Announces groups, each with a trace of its own: the trace of a whole job would have no end."""

from __future__ import annotations

from msgspec.structs import replace

from services.contracts.messages import OpenedGroup
from services.kit.tracing import begun
from services.ledger import GroupState
from services.trainer.session.session import Session

MOST_TRACES = 10_000
"""Groups whose trace is remembered for the batch that trains on them."""


async def open_group(session: Session, group: OpenedGroup) -> GroupState:
    """Open a group once; opening it again returns the state that it has by now. Raises StaleEpoch."""
    span = begun("group", root=True, group=group.group_id, purpose=group.purpose.value)
    try:
        traced = replace(group, trace=span.traceparent)
        state = await session.ledger.open(session.epoch, traced, session.spec.rollout.max_attempts)
    finally:
        span.end()
    if span.traceparent and state is GroupState.OPEN:
        session.traces[group.group_id] = span.traceparent
        while len(session.traces) > MOST_TRACES:
            del session.traces[next(iter(session.traces))]
    return state
