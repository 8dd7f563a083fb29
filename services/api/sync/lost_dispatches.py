"""Finds dispatches that Redis has lost and resets their rows, so that the reconciler repeats them.

A killed Redis restarts without its last second of data. A job may then count as dispatched although its message, spec
or command is gone, and would wait for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from redis.exceptions import RedisError
from sqlalchemy import Row, select, update
from structlog.stdlib import BoundLogger

from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.api.sync.broker import QueueUnreadable
from services.api.sync.dispatch import Dispatcher
from services.contracts.states import IDLE, TERMINAL, Command, JobState
from services.kit.redis import WritesRefused

_OVER = [state.value for state in TERMINAL]
_IS_DISPATCHED, _IS_TOLD = JobRow.dispatch_made >= JobRow.dispatch_wanted, JobRow.told_command == JobRow.command
_TOGETHER = 1_000
"""Most jobs named in one statement."""
_PAGE = 200
"""Jobs that are looked at before other work has its turn."""
_LOST = "Redis had lost this job's place in the queue; it is queued again"


class Losses:
    """One loop that looks for them; what is missing in two looks one after the other is lost.

    One look alone may come between two moves of a message, or before an event that is already on its way.

    Args:
        interval_s: between two looks.
        wake: has the reconciler look.
    """

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        log: BoundLogger,
        *,
        interval_s: float,
        wake: Callable[[], None],
    ) -> None:
        self._database, self._dispatcher, self._log = database, dispatcher, log
        self._interval_s, self._wake = interval_s, wake
        self._undispatched, self._untold = set[str](), set[str]()
        self._refusing: tuple[float, str] | None = None
        """When Redis began to refuse writes, and why."""

    async def run(self) -> None:
        """Look for losses without end; a Redis that does not answer is asked again."""
        while True:
            try:
                await self.tell_refusals()
                await self.look()
            except (RedisError, OSError) as error:
                self._log.warning("losses_later", error=repr(error))
            except QueueUnreadable as error:
                self._log.error("queue_unreadable", error=str(error))
            await asyncio.sleep(self._interval_s)

    async def tell_refusals(self) -> None:
        """Warn the owners of running jobs once Redis takes writes again: till then nobody can be. Raises RedisError."""
        try:
            await self._dispatcher.try_writing()
        except WritesRefused as refused:
            self._refusing = self._refusing or (time.monotonic(), str(refused))
            raise
        if self._refusing is not None:
            began, cause = self._refusing
            for job in await self._dispatcher.active():
                await self._dispatcher.warn(job, f"Redis refused writes for {time.monotonic() - began:.0f} s: {cause}")
            self._refusing = None

    async def look(self) -> None:
        """Compare what the rows say with what Redis holds; page by page, as thousands may wait."""
        announced = await self._dispatcher.announced()
        undispatched, untold = set[str](), set[str]()
        async for rows in self._pages():
            with_trainer = [row.id for row in rows if row.dispatched and row.state != JobState.PAUSED]
            undispatched |= await self._dispatcher.undispatched(with_trainer, announced)
            untold |= await self._dispatcher.untold({row.id: row.command for row in rows})
            # a cancelled job that nobody works on would have ended
            untold |= {row.id for row in rows if row.command == Command.CANCEL and row.state in IDLE}
        lost, unheard = _first(undispatched & self._undispatched), _first(untold & self._untold)
        self._undispatched, self._untold = undispatched - lost, untold - unheard
        if lost or unheard:
            await self._take_back(lost, unheard)

    async def _pages(self) -> AsyncIterator[Sequence[Row[str, str, str, bool]]]:
        """The jobs that have not ended and of which nothing is left to tell, in order of id."""
        columns = select(JobRow.id, JobRow.state, JobRow.command, _IS_DISPATCHED.label("dispatched"))
        query = columns.where(_IS_TOLD, JobRow.state.not_in(_OVER)).order_by(JobRow.id).limit(_PAGE)
        last = ""
        while True:
            async with self._database.read() as session:
                rows = (await session.execute(query.where(JobRow.id > last))).all()
            if rows:
                yield rows
            if len(rows) < _PAGE:
                return
            last = rows[-1].id

    async def _take_back(self, lost: set[str], unheard: set[str]) -> None:
        self._log.warning("redis_lost", dispatches=sorted(lost), commands=sorted(unheard))
        async with self._database.write() as session:
            undone = {"dispatch_made": JobRow.dispatch_wanted - 1}
            await session.execute(update(JobRow).where(JobRow.id.in_(lost), _IS_DISPATCHED).values(undone))
            await session.execute(update(JobRow).where(JobRow.id.in_(lost | unheard)).values(told_command=None))
        self._wake()
        for job_id in sorted(lost):
            await self._dispatcher.warn(job_id, _LOST)


def _first(job_ids: set[str]) -> set[str]:
    """The oldest of them; the others have their turn at the next look."""
    return set(sorted(job_ids)[:_TOGETHER])
