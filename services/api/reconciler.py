"""Brings what is to what is wanted, again and again: a crash at any point is repaired by the next look.

Only rows say what is to be done, and a row changes after the deed; so a deed may happen twice and never not at all.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from redis.exceptions import RedisError
from sqlalchemy import or_, select, update
from structlog.stdlib import BoundLogger

from services.api.database import Database
from services.api.dispatch import BrokerFailed, Dispatcher
from services.api.states import IDLE, TERMINAL, JobState, Wish
from services.api.tables import JobRow

_OVER = [state.value for state in TERMINAL]
_IDLE = [state.value for state in IDLE]


class Reconciler:
    """One loop over the jobs whose row says that something is left to do.

    Args:
        interval_s: longest time between two looks; `wake` makes the next one at once.
    """

    def __init__(self, database: Database, dispatcher: Dispatcher, log: BoundLogger, *, interval_s: float) -> None:
        self._database, self._dispatcher, self._log = database, dispatcher, log
        self._interval_s = interval_s
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something changed: look now."""
        self._wake.set()

    async def run(self) -> None:
        """For ever; a Redis or broker that does not answer is asked again."""
        while True:
            self._wake.clear()
            try:
                await self.reconcile()
            except (RedisError, OSError, BrokerFailed) as error:
                self._log.warning("reconcile_later", error=repr(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._interval_s)

    async def reconcile(self) -> None:
        """One look at every job that has something left to do."""
        left = or_(JobRow.told_wish.is_distinct_from(JobRow.wish), JobRow.dispatched.is_(False))
        async with self._database.read() as session:
            query = select(JobRow).where(JobRow.state.not_in(_OVER), left).order_by(JobRow.id)
            rows = (await session.scalars(query)).all()
        for row in rows:
            await self._bring(row)

    async def _bring(self, row: JobRow) -> None:
        if row.wish == Wish.RUN and not row.dispatched:
            await self._dispatcher.dispatch(row.id, row.spec, row.environment, row.wish)
            await self._note(row, dispatched=True)
            self._log.info("job_dispatched", job=row.id)
            return
        if row.told_wish != row.wish:
            await self._dispatcher.tell_wish(row.id, row.wish)
            if row.state in _IDLE and row.wish == Wish.CANCEL:
                await self._dispatcher.publish_state(row.id, JobState.CANCELLED)
                if row.state == JobState.PAUSED:  # the trainer drops what is live and writes the summary
                    await self._dispatcher.enqueue(row.id)
            elif row.state == JobState.PENDING and row.wish == Wish.PAUSE:
                await self._dispatcher.publish_state(row.id, JobState.PAUSED)
            await self._note(row)

    async def _note(self, row: JobRow, *, dispatched: bool = False) -> None:
        done: dict[str, object] = {"told_wish": row.wish}
        if dispatched:
            done["dispatched"] = True
        async with self._database.write() as session:
            await session.execute(update(JobRow).where(JobRow.id == row.id).values(**done))
