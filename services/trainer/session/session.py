"""The warm session: one job's learner and its state, kept in memory from segment to segment."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from redis.asyncio import Redis

from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.contracts.jobfolder import JobFolder
from services.contracts.summary import EvaluationResult
from services.ledger import Ledger
from services.trainer.events import Events
from services.trainer.groups.arrivals import Arrivals
from services.trainer.groups.payloads import StoredGroups
from services.trainer.groups.playability import Playability
from services.trainer.groups.training_queue import TrainingQueue
from services.trainer.learner.port import TrainsPolicy
from services.trainer.session.commands import Commands
from services.trainer.session.consumption import Consumption
from services.trainer.session.model_card import Subject
from services.trainer.settings import Settings
from services.trainer.storage.progress import Progress
from services.trainer.trackers.tracking import Tracking


@dataclass(frozen=True)
class Session:
    """One trainer of one job, for as long as its epoch is the newest.

    The learner computes, or is waited for, on the event loop's thread: meanwhile nothing else of this session runs.
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
    stored: StoredGroups
    commands: Commands
    epoch: int
    learner: TrainsPolicy
    progress: Progress
    """The content of the next checkpoint; the cursors in it are those of `queue` at that instant."""
    tracking: Tracking
    queue: TrainingQueue
    consumption: Consumption
    playability: Playability
    evaluations: list[EvaluationResult]
    """Durable results, oldest first."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Version 0 is served and measured: training may begin."""
    traces: dict[str, str] = field(default_factory=dict)
    """Group -> traceparent, of traced groups that this session opened; see `opening`."""

    @property
    def card(self) -> Subject:
        """The facts for the model card of a checkpoint written now."""
        return Subject(self.job, self.spec, self.environment, self.folder, self.progress, self.evaluations)
