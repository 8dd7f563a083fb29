"""The warm sessions of this process: found again by the next segment while nobody else claimed their job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redis.asyncio import Redis
from structlog.stdlib import BoundLogger

from services.kit.redis import connect
from services.ledger import Ledger, StaleEpoch
from services.trainer.job.errors import JobFailed
from services.trainer.job.events import Events
from services.trainer.job.fail_before_start import end_unstartable
from services.trainer.job.restore import restore_session
from services.trainer.job.segment import RedisGone, run_segment
from services.trainer.job.session import Session
from services.trainer.job.summary import ended_summary, tell_end
from services.trainer.settings import Settings
from services.trainer.storage.checkpoint import newest_complete
from services.trainer.storage.folders import JobFolder


class WarmSessions:
    """One event loop and a few jobs' sessions, of which one works at a time.

    Args:
        draining: whether this worker is being stopped.
    """

    def __init__(self, settings: Settings, log: BoundLogger, draining: Callable[[], bool]) -> None:
        self._settings, self._log, self._draining = settings, log, draining
        self._runner = asyncio.Runner()
        self._redis: Redis | None = None
        self._warm: dict[tuple[str, int], Session] = {}

    def run(self, job: str, continues: int | None) -> int | None:
        """Run a job's next segment.

        Args:
            continues: batch at whose checkpoint the message before this one ended; None: a user's start or resume.
                A message behind the newest checkpoint was delivered twice and does nothing.

        Returns:
            Batch to continue from; None when no segment is to follow.

        Raises:
            RedisGone: the message is to be delivered again.
        """
        return self._runner.run(self._run(job, continues))

    async def _run(self, job: str, continues: int | None) -> int | None:
        if self._redis is None:
            self._redis = connect(self._settings.redis_url)
        folder = JobFolder.of(self._settings.data_dir, job)
        if (summary := ended_summary(folder)) is not None:
            await tell_end(Events(self._redis, job), summary)  # it may have died before it told
            return None
        session = await self._warm_session(job)
        if continues is not None and continues < self._position(session, folder):
            return None
        try:
            if session is None:
                session = await restore_session(self._redis, self._settings, job, self._draining)
            self._keep(session)
            more = await run_segment(session, self._log)
        except JobFailed as error:
            await end_unstartable(self._redis, folder, job, str(error))
            return None
        except StaleEpoch:
            self._log.warning("another trainer holds the job", job=job)
            self._let_go(job)
            return None
        except RedisGone:
            self._let_go(job)  # it may have stopped between two moves; the next one starts from what is durable
            raise
        except Exception as error:  # the outermost loop: loading it, or even ending it, failed (memory, storage)
            log = self._log
            log.exception("job could not be run", job=job)
            self._let_go(job)
            await end_unstartable(self._redis, folder, job, f"unexpected: {type(error).__name__}: {error}")
            return None
        if not more:
            self._let_go(job)
        return session.progress.batch if more else None

    async def _warm_session(self, job: str) -> Session | None:
        assert self._redis is not None
        return self._warm.get((job, await Ledger(self._redis, job).newest_epoch()))

    def _keep(self, session: Session) -> None:
        """Most lately used last; the longest unused one makes room."""
        self._warm.pop((session.job, session.epoch), None)
        self._let_go(session.job)
        self._warm[session.job, session.epoch] = session
        while len(self._warm) > self._settings.warm_sessions:
            self._let_go(next(iter(self._warm))[0])

    def _let_go(self, job: str) -> None:
        for key in [key for key in self._warm if key[0] == job]:
            self._warm.pop(key).tracking.stop()

    def _position(self, session: Session | None, folder: JobFolder) -> int:
        return session.progress.batch if session else newest_complete(folder.checkpoints)[1].batch
