"""Brings each job to the state that its owner wants, in a loop: the next look repairs a crash at any point.

Only rows say which actions are due, and a row changes after its action. So an action may happen twice, but it is never
lost. A row notes the action that was done and never that nothing is left, because more may have become due meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from redis.exceptions import RedisError
from sqlalchemy import Table, and_, bindparam, or_, select, update
from structlog.stdlib import BoundLogger

from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.api.sync.broker import QueueUnreadable
from services.api.sync.dispatch import BrokerFailed, Dispatcher
from services.api.sync.fair_queue import FairQueue
from services.contracts.states import IDLE, TERMINAL, Command, JobState

_WAITING = IDLE - {JobState.PAUSED}
_OVER = [state.value for state in TERMINAL]
_JOBS = cast(Table, JobRow.__table__)
_TOGETHER = 100
"""Jobs that are told in one round trip and noted in one transaction."""


class Reconciler:
    """One loop over the jobs whose row says that something is left to do.

    Args:
        queue: is put in order after each look.
        interval_s: longest time between two looks; `wake` makes the next one at once.
    """

    def __init__(
        self, database: Database, dispatcher: Dispatcher, queue: FairQueue, log: BoundLogger, *, interval_s: float
    ) -> None:
        self._database, self._dispatcher, self._queue, self._log = database, dispatcher, queue, log
        self._interval_s = interval_s
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something changed: look now."""
        self._wake.set()

    async def run(self) -> None:
        """Reconcile without end; a Redis or broker that does not answer is asked again."""
        while True:
            self._wake.clear()
            try:
                while await self.reconcile():
                    pass
                await self._queue.arrange()
            except (RedisError, OSError, BrokerFailed, QueueUnreadable) as error:
                self._log.warning("reconcile_later", error=repr(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._interval_s)

    async def reconcile(self) -> bool:
        """One look at jobs that have something left to do, the oldest first. True: there may be more."""
        wanted = or_(JobRow.command == Command.RUN.value, JobRow.state == JobState.RUNNING.value)
        to_dispatch = and_(wanted, JobRow.dispatch_made < JobRow.dispatch_wanted)
        to_tell = JobRow.told_command.is_distinct_from(JobRow.command)
        async with self._database.read() as session:
            query = select(JobRow).where(JobRow.state.not_in(_OVER), or_(to_dispatch, to_tell)).order_by(JobRow.id)
            rows = (await session.scalars(query.limit(_TOGETHER))).all()
        waiting = [row for row in rows if _is_wanted(row) and row.dispatch_made < row.dispatch_wanted]
        if waiting:
            await self._dispatch(waiting)
        for row in rows:
            if row not in waiting:
                await self._tell(row)
        return len(rows) == _TOGETHER

    async def _dispatch(self, rows: Sequence[JobRow]) -> None:
        await self._dispatcher.dispatch(rows)
        done = (
            update(_JOBS)
            .where(_JOBS.c.id == bindparam("job"), _JOBS.c.dispatch_made < bindparam("made"))
            .values(dispatch_made=bindparam("made"), told_wish=bindparam("told"))
        )
        noted = [{"job": row.id, "made": row.dispatch_wanted, "told": row.command} for row in rows]
        async with self._database.write() as session:
            await (await session.connection()).execute(done, noted)
        self._log.info("jobs_dispatched", jobs=[row.id for row in rows])

    async def _tell(self, row: JobRow) -> None:
        await self._dispatcher.tell_command(row.id, row.command)
        if row.state in IDLE and row.command == Command.CANCEL:
            await self._dispatcher.publish_state(row.id, JobState.CANCELLED)
            if row.state == JobState.PAUSED:  # the trainer drops what is live and writes the summary
                await self._dispatcher.enqueue([row.id])
        elif row.state in _WAITING and row.command == Command.PAUSE and row.dispatch_made < row.dispatch_wanted:
            await self._dispatcher.publish_state(row.id, JobState.PAUSED)
        async with self._database.write() as session:
            await session.execute(update(JobRow).where(JobRow.id == row.id).values(told_command=row.command))


def _is_wanted(row: JobRow) -> bool:
    """Whether a trainer is to work on it; on a running job also to pause or end it."""
    return row.command == Command.RUN or row.state == JobState.RUNNING
