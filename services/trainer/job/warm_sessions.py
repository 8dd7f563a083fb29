"""The warm sessions of this process: the next segment reuses one unless another trainer has claimed its job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from redis.asyncio import Redis
from structlog.stdlib import BoundLogger

from services.contracts import keys
from services.contracts.jobfolder import JobFolder
from services.kit.redis import connect
from services.ledger import Ledger, LedgerSpoiled, RecordUnreadable, StaleEpoch
from services.ledger.active_jobs import deactivate
from services.trainer.errors import JobFailed, NoReplicaFree, RanksLost, unexpected
from services.trainer.events import Events
from services.trainer.job.continuation import Continuation
from services.trainer.job.fail_before_start import end_unstartable
from services.trainer.job.restore import restore_session
from services.trainer.job.segment import RedisGone, run_segments
from services.trainer.job.summary import ended_summary, tell_end
from services.trainer.job.takes import count_take
from services.trainer.ranks.learners import Learners
from services.trainer.replicas.room import wait_for_room
from services.trainer.session.session import Session
from services.trainer.settings import Settings
from services.trainer.storage.checkpoint import newest_complete
from services.trainer.storage.folders import made_folder


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
        self._learners = Learners(settings)

    def run(self, job: str, continues: int | None) -> Continuation | None:
        """Train a job until it ends or is to be left.

        Args:
            continues: batch at whose checkpoint the message before this one ended; None: a user's start or resume.
                A message behind the newest checkpoint was delivered twice and does nothing.

        Returns:
            The message that is to follow; None: none is.

        Raises:
            RedisGone: the message is to be delivered again.
        """
        return self._runner.run(self._run(job, continues))

    def close(self) -> None:
        """End the ranks."""
        self._learners.forget_ranks()

    async def _run(self, job: str, continues: int | None) -> Continuation | None:
        if self._redis is None:
            self._redis = connect(self._settings.redis_url)
        if await self._redis.exists(keys.deleted(job)):
            await deactivate(self._redis, job)
            return None
        folder = made_folder(self._settings.data_dir, job)
        if (summary := ended_summary(folder)) is not None:
            await deactivate(self._redis, job)  # Redis may have lost it
            await tell_end(Events(self._redis, job), summary)  # it may have died before it told
            return None
        session = await self._warm_session(job)
        try:
            if continues is not None and continues < self._position(session, folder):
                return None
            await self._wait_for_room(job)
            await count_take(self._redis, folder, job, self._settings.fruitless_takes)
            if session is None:
                session = await restore_session(self._redis, self._settings, self._learners, job, self._draining)
            self._keep(session)
            priority = await run_segments(session, self._log)
        except NoReplicaFree:
            return Continuation(continues, keys.WAITING)
        except (JobFailed, LedgerSpoiled, RecordUnreadable) as error:
            await end_unstartable(self._redis, folder, job, str(error))
            return None
        except StaleEpoch:
            self._log.warning("another trainer holds the job", job=job)
            self._let_go(job)
            return None
        except RanksLost as error:
            self._log.warning("the ranks are lost", job=job, error=str(error))
            self._forget_ranks()
            with suppress(*RedisGone):
                await Events(self._redis, job).warn(f"{error}; the job goes on from its newest checkpoint")
            return Continuation(None, keys.HANDED_OVER)
        except RedisGone:
            self._let_go(job)  # it may have stopped between two moves; the next one starts from what is durable
            raise
        except Exception as error:  # the outermost loop: loading it, or even ending it, failed (memory, storage)
            log = self._log
            log.exception("job could not be run", job=job)
            self._let_go(job)
            await end_unstartable(self._redis, folder, job, unexpected(error))
            return None
        if priority is None:
            self._let_go(job)
            return None
        return Continuation(session.progress.batch, priority)

    async def _wait_for_room(self, job: str) -> None:
        """Raises NoReplicaFree: another job has its turn."""
        assert self._redis is not None
        end = time.monotonic() + self._settings.room_wait_s
        await wait_for_room(self._redis, job, lambda: time.monotonic() >= end or self._draining())

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
            session = self._warm.pop(key)
            session.tracking.stop()
            self._learners.close(session.learner)

    def _forget_ranks(self) -> None:
        """Every session's learner is gone with them; what a job needs is in its checkpoint and its manifests."""
        self._learners.forget_ranks()
        for session in self._warm.values():
            session.tracking.stop()
        self._warm.clear()

    def _position(self, session: Session | None, folder: JobFolder) -> int:
        return session.progress.batch if session else newest_complete(folder.checkpoints)[1].batch
