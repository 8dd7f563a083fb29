"""The warm session: one job's learner and everything around it, kept in memory from segment to segment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.contracts.summary import EvaluationResult
from services.kit.values import string_value
from services.ledger import Ledger, StaleEpoch
from services.ledger.playability import why_unplayable
from services.trainer.batch.arrivals import Arrivals
from services.trainer.job.errors import CancelRequested, DrainRequested, JobFailed, PauseRequested
from services.trainer.job.events import Events
from services.trainer.settings import Settings
from services.trainer.storage.folders import JobFolder
from services.trainer.storage.progress import Progress
from services.trainer.trackers.tracking import Tracking

if TYPE_CHECKING:  # the learner brings torch, which only the pool's child may load
    from services.trainer.learner.learner import Learner


@dataclass
class Session:
    """One trainer of one job, for as long as its epoch is the newest.

    The learner computes on the event loop's thread: while it does, nothing else of this session runs.
    """

    job: str
    spec: JobSpec
    environment: EnvironmentInfo
    settings: Settings
    folder: JobFolder
    redis: Redis
    ledger: Ledger
    events: Events
    arrivals: Arrivals
    epoch: int
    learner: Learner
    progress: Progress
    tracking: Tracking
    draining: Callable[[], bool] = lambda: False
    """Whether this worker is being stopped."""
    waiting: dict[int, str] = field(default_factory=dict)
    """Cursor -> id of training groups opened and neither assigned nor dropped, in order of cursor."""
    scored: set[str] = field(default_factory=set)
    """Those of them whose scores have arrived."""
    unconsumed: dict[int, list[str]] = field(default_factory=dict)
    """Trained batch -> its groups, until no checkpoint that may have to be gone back to lacks its effect."""
    saved_batch: int = 0
    """`progress.batch` of the newest checkpoint."""
    evaluations: list[EvaluationResult] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    """Group -> why it was given up, as long as none of its purpose was played."""
    last_cause: str = ""
    """Why the last group was given up."""
    played: set[str] = field(default_factory=set)
    """Purposes of which a group was played to its end."""
    mismatch_told: bool = False
    """The owner was warned that engine and trainer differ; once is enough."""
    started: bool = False
    """Version 0 is served and measured: training may begin."""

    async def consume_trained(self, before: int | None = None) -> None:
        """Free the payloads of trained batches, those before batch `before` or all: their effect is durable.

        What is done stays done on an error.
        """
        for batch in sorted(batch for batch in self.unconsumed if before is None or batch < before):
            await self.ledger.consume(self.epoch, batch, self.unconsumed[batch])
            del self.unconsumed[batch]

    async def heed_wish(self) -> None:
        """Look at what the user wants, and whether time is left.

        Raises:
            CancelRequested, PauseRequested, DrainRequested, StaleEpoch.
            JobFailed: max_wall_s, or no rollout worker can ever play the job.
        """
        wish = await string_value(self.redis, keys.control(self.job))
        await self.check_epoch()
        if wish == b"cancel":
            raise CancelRequested(self.job)
        if wish == b"pause":
            raise PauseRequested(self.job)
        if self.draining():
            raise DrainRequested(self.job)
        spent_s = time.time() - self.progress.started_unix_s
        if spent_s > self.spec.limits.max_wall_s:
            raise JobFailed(f"max_wall_s: the job took longer than {self.spec.limits.max_wall_s:g} s")
        if (cause := await why_unplayable(self.redis, self.job)) is not None:
            raise JobFailed(f"the job cannot be played: {cause}")

    async def check_epoch(self) -> None:
        """Raises StaleEpoch when another trainer claimed the job: this one must not write anything any more."""
        newest = await self.ledger.newest_epoch()
        if newest != self.epoch:
            raise StaleEpoch(f"job {self.job}: epoch {self.epoch} was replaced by {newest}")


class Deadline:
    """A limit on a wait, restarted by progress where the caller says so."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self.restart()

    def restart(self) -> None:
        self._end = asyncio.get_running_loop().time() + self._limit_s

    @property
    def passed(self) -> bool:
        return asyncio.get_running_loop().time() > self._end
