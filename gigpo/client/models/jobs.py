"""Jobs and what they say."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from gigpo.client.models.base import Answer
from services.contracts.states import TERMINAL

ENDED = TERMINAL


class Job(Answer):
    """A job as the API shows it."""

    id: str
    name: str | None
    kind: str = "training"
    """`training`, or `evaluation`: a pinned policy version on held-out tasks."""
    state: str
    wish: str
    """What the user wants: run, pause or cancel."""
    phase: str | None
    environment: str
    advantage_estimator: str
    seed: int
    total_batches: int
    parent_job: str | None = None
    """The job that this one repeats, was forked from, or evaluates."""
    created_unix_s: float
    started_unix_s: float | None
    finished_unix_s: float | None
    error: str | None
    metrics: dict[str, Any] | None
    """Of the last batch."""
    spec: dict[str, Any] | None = None
    """Resolved; None in lists."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Event(Answer):
    """One event of a job."""

    id: str
    """Give it as `after` to go on behind it."""
    kind: str
    """state, phase, metrics, evaluation, checkpoint, warning or summary."""
    at_unix_s: float
    data: dict[str, Any]


class DryRun(Answer):
    """What a submission would run."""

    spec: dict[str, Any]
    """Resolved: every default written out."""
    estimates: dict[str, Any] = Field(default_factory=dict)
    """Memory and tokens the job will need, by name."""
    warnings: list[Any] = Field(default_factory=list)
    """What is allowed and probably not meant."""
