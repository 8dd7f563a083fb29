"""Reasons to stop a session at a boundary: the user's command, the worker's drain, the time limit, a newer trainer."""

from __future__ import annotations

import time
from collections.abc import Callable

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.states import Command
from services.kit.values import string_value
from services.ledger import Ledger, StaleEpoch
from services.ledger.playability import why_unplayable
from services.trainer.errors import CancelRequested, DrainRequested, JobFailed, PauseRequested


class Commands:
    """Asked at every boundary and while waiting.

    Args:
        draining: whether this worker is being stopped.
        started_unix_s: when the job's first segment began.
        max_wall_s: how long the job may take from there.
    """

    def __init__(
        self,
        redis: Redis,
        ledger: Ledger,
        epoch: int,
        draining: Callable[[], bool],
        *,
        started_unix_s: float,
        max_wall_s: float,
    ) -> None:
        self._redis, self._ledger, self._epoch, self._draining = redis, ledger, epoch, draining
        self._started_unix_s, self._max_wall_s = started_unix_s, max_wall_s

    async def check(self) -> None:
        """Go on, unless there is a reason to stop.

        Raises:
            CancelRequested, PauseRequested, DrainRequested, StaleEpoch.
            JobFailed: max_wall_s, or no rollout worker can ever play the job.
        """
        job = self._ledger.job
        command = await string_value(self._redis, keys.control(job))
        await self.check_epoch()
        if command == Command.CANCEL.value.encode():
            raise CancelRequested(job)
        if command == Command.PAUSE.value.encode():
            raise PauseRequested(job)
        if self._draining():
            raise DrainRequested(job)
        if time.time() - self._started_unix_s > self._max_wall_s:
            raise JobFailed(f"max_wall_s: the job took longer than {self._max_wall_s:g} s")
        if (cause := await why_unplayable(self._redis, job)) is not None:
            raise JobFailed(f"the job cannot be played: {cause}")

    async def check_epoch(self) -> None:
        """Raises StaleEpoch when another trainer claimed the job: this one must not write anything any more."""
        newest = await self._ledger.newest_epoch()
        if newest != self._epoch:
            raise StaleEpoch(f"job {self._ledger.job}: epoch {self._epoch} was replaced by {newest}")
