"""Deletes an ended job: its rows, its Redis keys, and the files that the platform wrote into its folder; then files
of users and models of the hub that no job names any more.

Jobs that were made from it (retries, forks, evaluations) have their own files and stay; so do downloaded results and
the data of external trackers.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError

from services.api.artifacts.job_files import Entries, entries, taken_aside
from services.api.artifacts.storage import job_folder
from services.api.jobs.queries import find
from services.api.jobs.shared_files import remove_unnamed
from services.api.rest.caller import Caller
from services.api.rest.problems import Problem, not_found
from services.api.sql.database import Database
from services.api.sql.tables import EventRow, IdempotencyRow, JobRow
from services.api.sync.broker import QueueUnreadable, held_jobs
from services.contracts import keys
from services.contracts.rest.jobs import JobRemains
from services.contracts.states import TERMINAL
from services.ledger.ended_jobs import lasting_names

_UNLOADED = {"synchronize_session": False}
"""Rows of the table are never loaded here, so none has to be synchronized."""
_MESSAGES_LIVE_S = 30 * 24 * 3600
"""Longer than any message of a job that has ended waits in the trainer's queue."""


@dataclass(frozen=True)
class Removal:
    """Deletes jobs that a caller sees."""

    database: Database
    redis: Redis
    broker: Redis
    """Celery's database."""
    data_dir: Path

    async def remains(self, caller: Caller, job_id: str) -> JobRemains:
        """The effects of a deletion. Raises Problem 404."""
        job = await find(self.database, caller, job_id)
        return await self._remains(job.id, await asyncio.to_thread(entries, job_folder(self.data_dir, job.id)))

    async def delete(self, caller: Caller, job_id: str) -> JobRemains:
        """Delete a job; gives what went with it.

        Raises:
            Problem: 404; 409 for a job that has not ended, or that a trainer still holds; 503 while Redis, which knows
                of the trainer, does not answer.
        """
        _want_ended(await find(self.database, caller, job_id))
        try:
            await self._claim(job_id)
            remains = await asyncio.shield(asyncio.create_task(self._delete(caller, job_id)))
        except (RedisError, OSError, QueueUnreadable) as error:
            raise Problem(503, f"cannot delete job {job_id}: {error}", headers={"Retry-After": "2"}) from error
        return remains

    async def _claim(self, job_id: str) -> None:
        """Keep trainers away from the job from now on. Raises Problem 409: one is at work on it already."""
        await self.redis.set(keys.deleted(job_id), b"1", ex=_MESSAGES_LIVE_S)
        if job_id in await held_jobs(self.broker):
            await self.redis.unlink(keys.deleted(job_id))
            raise Problem(409, f"cannot delete job {job_id}: a trainer is still ending it; ask again in a moment")

    async def _delete(self, caller: Caller, job_id: str) -> JobRemains:
        folder = job_folder(self.data_dir, job_id)
        remains = await self._remains(job_id, await asyncio.to_thread(entries, folder))
        with ExitStack() as aside:
            async with self.database.seen_by(caller).write() as session:
                row = await session.get(JobRow, job_id, with_for_update=True)
                if row is None:
                    raise not_found("job", job_id)
                _want_ended(row)
                await asyncio.to_thread(aside.enter_context, taken_aside(folder))
                for table in (EventRow, IdempotencyRow):
                    await session.execute(delete(table).where(table.job_id == job_id), execution_options=_UNLOADED)
                await session.delete(row)
            await asyncio.to_thread(aside.close)
        with suppress(SQLAlchemyError, OSError):  # the job is gone all the same; the next deletion finds what is left
            await remove_unnamed(self.database, self.data_dir)
        with suppress(RedisError, OSError):  # nobody reads these names any more
            await self.redis.unlink(*lasting_names(job_id))
        return remains

    async def _remains(self, job_id: str, found: Entries) -> JobRemains:
        async with self.database.read() as session:
            counted = select(func.count()).select_from(EventRow).where(EventRow.job_id == job_id)
            events = await session.scalar(counted)
        return JobRemains(
            job_id=job_id,
            events=events or 0,
            folder=str(job_folder(Path(), job_id)),
            files=[path.name for path in found.written],
            size_bytes=await asyncio.to_thread(lambda: found.size_bytes),
            kept=[path.name for path in found.foreign],
        )


def _want_ended(row: JobRow) -> None:
    if row.state not in TERMINAL:
        raise Problem(409, f"cannot delete job {row.id}: want a job that has ended, got state {row.state}")
