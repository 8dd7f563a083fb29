"""Tells the owners of queued jobs that no trainer is there for them; a trainer tells what else its job waits for."""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import select
from structlog.stdlib import BoundLogger

from services.api.sql.database import Database
from services.api.sql.tables import EventRow, JobRow
from services.api.sync.broker import QueueUnreadable, held_jobs
from services.api.sync.dispatch import Dispatcher
from services.contracts.events import Kind
from services.contracts.states import Command, JobState
from services.ledger.presence import present_names

_TOGETHER = 200
"""Jobs that are looked at, the oldest first: the others have their turn when these have begun."""
OF_A_TRAINER = "waits for a trainer: "


class WaitingJobs:
    """One loop over the jobs that wait in the trainer's queue.

    Args:
        interval_s: between two looks; what is true in two of them is told.
    """

    def __init__(
        self, redis: Redis, database: Database, dispatcher: Dispatcher, log: BoundLogger, *, interval_s: float
    ) -> None:
        self._redis, self._database, self._dispatcher, self._log = redis, database, dispatcher, log
        self._interval_s = interval_s
        self._seen: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """For ever; a Redis that does not answer is asked again."""
        while True:
            try:
                await self.look()
            except (RedisError, OSError, QueueUnreadable) as error:
                self._log.warning("waiting_jobs_later", error=repr(error))
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Tell each job why it waits, unless that was the last word on it."""
        trainers, held = len(await present_names(self._redis, "trainer")), await held_jobs(self._redis)
        reason = _reason(trainers, len(held))
        waiting = [] if reason is None else await self._waiting(held)
        former, self._seen = self._seen, {(job, str(reason)) for job in waiting}
        for job, found in sorted(former & self._seen):
            last = await last_reason(self._database, job)
            ours = last is None or last.startswith(OF_A_TRAINER) or not trainers
            if ours and last != found:
                await self._dispatcher.tell_waiting(job, found)

    async def _waiting(self, held: set[str]) -> list[str]:
        query = (
            select(JobRow.id)
            .where(JobRow.state == JobState.QUEUED.value, JobRow.command == Command.RUN.value)
            .order_by(JobRow.id)
            .limit(_TOGETHER)
        )
        async with self._database.read() as session:
            return [job for job in (await session.scalars(query)).all() if job not in held]


async def last_reason(database: Database, job_id: str) -> str | None:
    """Why the job waits, as its newest state or phase says; None: it says nothing of it."""
    kinds = [Kind.STATE.value, Kind.PHASE.value]
    query = select(EventRow.data).where(EventRow.job_id == job_id, EventRow.kind.in_(kinds))
    async with database.read() as session:
        newest = await session.scalar(query.order_by(EventRow.ms.desc(), EventRow.seq.desc()).limit(1))
    reason = (newest or {}).get("reason")
    return reason if isinstance(reason, str) else None


def _reason(trainers: int, at_work: int) -> str | None:
    """None: one is about to take it."""
    if not trainers:
        return f"{OF_A_TRAINER}none is running"
    return None if at_work < trainers else f"{OF_A_TRAINER}all {trainers} are at work"
