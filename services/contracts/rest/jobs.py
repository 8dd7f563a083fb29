"""Jobs as documents: requests, and the views that answer them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from services.contracts.environment import EnvironmentInfo
from services.contracts.rest.base import Document, Named, Request
from services.contracts.states import TERMINAL, JobState, Wish

JobKind = Literal["training", "evaluation"]


class Origin(Document):
    """What a job begins with that another job of the project made."""

    kind: Named[Literal["retry", "fork", "evaluation", "model"]]
    """`retry` goes on with the training; the others take the policy only (`model`: named in a submitted spec)."""
    job_id: str
    checkpoint: str | None
    """Null: the retried job had none, so it starts anew."""
    version: int | None = None
    """The checkpoint's policy version in that job; null where it is not known."""


class JobView(Document):
    """A job as lists show it."""

    id: str
    project_id: str
    kind: Named[JobKind]
    name: str | None
    state: Named[JobState]
    wish: Named[Wish]
    """What the user wants: run, pause or cancel."""
    phase: str | None
    environment: str
    advantage_estimator: str
    seed: int
    total_batches: int
    parent_job: str | None
    """The job that this one retries, was forked from, or evaluates."""
    origin: Origin | None
    created_unix_s: float
    started_unix_s: float | None
    finished_unix_s: float | None
    error: str | None
    metrics: dict[str, JsonValue] | None
    """Of the last batch."""

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL


class JobDetail(JobView):
    """A job with everything that was asked for."""

    spec: dict[str, JsonValue]
    """Resolved: every default written out."""


class JobPage(Document):
    """Some jobs, newest first."""

    jobs: list[JobView]
    next_cursor: str | None
    """Give it as `cursor` for the next page; null: this is the last."""


class Estimates(Document):
    """What a job will need, computed from its spec; upper bounds where lengths are not known before."""

    parameters: int
    trainer_memory_bytes: int
    """Weights, gradients, AdamW's moments, the reference policy where beta > 0, and one microbatch's activations."""
    engine_memory_bytes: int
    """Weights and the key-value cache of one engine."""
    prompt_tokens_per_batch: int
    response_tokens_per_batch: int
    env_steps_per_batch: int
    env_steps: int
    """All training batches; evaluations and the warm start not counted."""
    checkpoint_bytes: int
    """All checkpoints that are kept at a time, and the final policy."""


class DryRun(Document):
    """What a submission would run."""

    spec: dict[str, JsonValue]
    """Resolved: every default written out."""
    environment: EnvironmentInfo
    estimates: Estimates
    warnings: list[str]
    """Sentences about settings that are allowed and seldom wanted."""


class ForkRequest(Request):
    """A new job that begins with a checkpoint of this one."""

    checkpoint: str | None = Field(None, max_length=128, examples=["b000010"])
    """Name of the checkpoint; null: the newest."""
    overrides: dict[str, JsonValue] = Field(
        default_factory=dict, examples=[{"training.learning_rate": 3e-5, "algorithm": {"beta": 0.0}}]
    )
    """What differs in the spec, by dotted keys or nested sections."""
    name: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    """Name of the new job."""
