"""Tells the owners of queued jobs why no trainer takes them yet, and how many jobs come before them.

A trainer tells what else its job waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import select
from structlog.stdlib import BoundLogger

from services.api.sql.database import Database
from services.api.sql.tables import EventRow
from services.api.sync.broker import QueueUnreadable
from services.api.sync.dispatch import Dispatcher
from services.api.sync.fair_queue import FairQueue
from services.contracts.events import Kind
from services.ledger.presence import present_names

_TOGETHER = 200
"""Jobs that are told, those that come first: the others have their turn when these have begun."""
OF_A_TRAINER = "waits for a trainer: "


class WaitingJobs:
    """One loop over the jobs that wait in the trainer's queue.

    Args:
        queue: knows who waits.
        interval_s: between two looks; a reason that holds in two of them is told.
    """

    def __init__(
        self,
        redis: Redis,
        queue: FairQueue,
        database: Database,
        dispatcher: Dispatcher,
        log: BoundLogger,
        *,
        interval_s: float,
    ) -> None:
        self._redis, self._queue = redis, queue
        self._database, self._dispatcher, self._log = database, dispatcher, log
        self._interval_s = interval_s
        self._seen: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Look at waiting jobs without end; a Redis that does not answer is asked again."""
        while True:
            try:
                await self.look()
            except (RedisError, OSError, QueueUnreadable) as error:
                self._log.warning("waiting_jobs_later", error=repr(error))
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Tell each job why it waits, unless that was the last word on it."""
        await self._queue.arrange()
        trainers, held = len(await present_names(self._redis, "trainer")), self._queue.held
        reason = _reason(trainers, len(held))
        waiting = dict(list(self._queue.before.items())[:_TOGETHER]) if reason is not None else {}
        former, self._seen = self._seen, {(job, str(reason)) for job in waiting}
        for job, found in sorted(former & self._seen):
            last = await _last_word(self._database, job)
            said, before = last.get("reason"), waiting[job]
            ours = not isinstance(said, str) or said.startswith(OF_A_TRAINER) or not trainers
            if ours and (_without_place(said) != found or _moved(last.get("before"), before)):
                await self._dispatcher.tell_waiting(job, _with_place(found, before), before)


async def last_reason(database: Database, job_id: str) -> str | None:
    """Why the job waits, as its newest state or phase says; None: it says nothing of it."""
    reason = (await _last_word(database, job_id)).get("reason")
    return reason if isinstance(reason, str) else None


async def _last_word(database: Database, job_id: str) -> Mapping[str, object]:
    kinds = [Kind.STATE.value, Kind.PHASE.value]
    query = select(EventRow.data).where(EventRow.job_id == job_id, EventRow.kind.in_(kinds))
    async with database.read() as session:
        return await session.scalar(query.order_by(EventRow.ms.desc(), EventRow.seq.desc()).limit(1)) or {}


def _reason(trainers: int, at_work: int) -> str | None:
    """None: one is about to take it."""
    if not trainers:
        return f"{OF_A_TRAINER}none is running"
    return None if at_work < trainers else f"{OF_A_TRAINER}all {trainers} are at work"


def _with_place(reason: str, before: int) -> str:
    return f"{reason}; jobs before it: {before}" if before else reason


def _without_place(reason: object) -> str:
    return str(reason).partition("; jobs before it:")[0]


def _moved(told: object, before: int) -> bool:
    """Whether a place differs enough from the one that was told: by a tenth, so that a long queue floods nobody."""
    told = told if isinstance(told, int) else 0
    return told != before and abs(told - before) * 10 >= told
