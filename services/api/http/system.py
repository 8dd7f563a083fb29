"""The overview of the installation for its operators."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from sqlalchemy import func, select

from services.api.http.app_parts import Container
from services.api.http.health import health
from services.api.insight.alarms import alarms_seen
from services.api.jobs.dead_letters import counted_everywhere
from services.api.rest.caller import Caller
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.api.sync.broker import queue_lengths
from services.contracts import keys
from services.contracts.rest.catalogue import LedgerView, QueueView, ServiceView, SystemView
from services.contracts.states import JobState
from services.kit.backlog import backlog
from services.ledger import Ledger, RecordUnreadable
from services.ledger.presence import present_instances

_BEGUN = [JobState.RUNNING.value, JobState.PAUSED.value]


async def system_view(parts: Container, caller: Caller) -> SystemView:
    """Services and the trainer's queue of the installation; streams, ledger and jobs that the caller sees."""
    begun = await _job_ids(parts.database, caller)
    return SystemView(
        version=version("gigpo-platform"),
        database_revision=parts.database.revision,
        health=await health(parts.database, parts.redis, parts.environments, parts.settings.expected_services),
        services=await _services(parts.redis, caller),
        queues=[await _trainer_queue(parts.broker), *await _streams(parts.redis, begun)],
        ledger=await _ledger(parts.redis, begun),
        alarms=await alarms_seen(parts.database, parts.redis, caller),
        dead_letters=await counted_everywhere(parts.database, parts.letters, caller),
        jobs=await _counts(parts.database, caller),
    )


async def _job_ids(database: Database, caller: Caller) -> list[str]:
    query = select(JobRow.id).where(JobRow.state.in_(_BEGUN))
    async with database.seen_by(caller).read() as session:
        return list((await session.scalars(query.order_by(JobRow.id))).all())


async def _counts(database: Database, caller: Caller) -> dict[str, int]:
    query = select(JobRow.state, func.count()).group_by(JobRow.state)
    async with database.seen_by(caller).read() as session:
        found = {state: int(count) for state, count in (await session.execute(query)).all()}
    return {state.value: found.get(state.value, 0) for state in JobState}


async def _services(redis: Redis, caller: Caller) -> list[ServiceView]:
    """List the live services; their work, which names jobs of every project, is shown to those alone who see all
    projects."""
    return [
        ServiceView(
            service=one.service, instance=one.instance, pid=one.pid, detail=one.detail if caller.sees is None else {}
        )
        for one in await present_instances(redis)
    ]


async def _trainer_queue(redis: Redis) -> QueueView:
    waiting, in_flight = await queue_lengths(redis)
    return QueueView(name="trainer", job_id=None, waiting=waiting, in_flight=in_flight)


async def _streams(redis: Redis, job_ids: Sequence[str]) -> list[QueueView]:
    named = {"groups": keys.groups_stream, "episodes": keys.episodes_stream, "scored": keys.scored_stream}
    return [await _stream(redis, name, job, stream_of(job)) for job in job_ids for name, stream_of in named.items()]


async def _stream(redis: Redis, name: str, job: str, stream: str) -> QueueView:
    found = await backlog(redis, stream)
    return QueueView(name=name, job_id=job, waiting=found.waiting, in_flight=found.in_flight)


async def _ledger(redis: Redis, job_ids: Sequence[str]) -> LedgerView:
    total = LedgerView()
    for job in job_ids:
        try:
            balance = await Ledger(redis, job).balance()
        except (RecordUnreadable, ResponseError):
            total.balanced = False
            continue
        total.opened += balance.opened
        total.consumed += balance.consumed
        total.live += balance.live
        for reason, count in balance.dropped.items():
            total.dropped[reason] = total.dropped.get(reason, 0) + count
        total.balanced = total.balanced and balance.holds
    return total
