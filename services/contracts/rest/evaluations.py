"""Evaluations as documents: a pinned policy, a panel of tasks, and the results."""

from __future__ import annotations

from typing import Self

from pydantic import Field, computed_field, model_validator

from services.contracts.rest.base import DEPRECATED, Document, Named, Page, Request
from services.contracts.states import TERMINAL, JobState
from services.contracts.summary import EvaluationResult


class EvaluationRequest(Request):
    """Measure one policy of a job; what is not given is as in the job's spec."""

    job_id: str = Field(max_length=32, pattern=r"^[^\x00]*$", examples=["j1a2126c436f8acbfa"])
    checkpoint: str | None = Field(None, max_length=128, examples=["final"])
    """Name of the checkpoint to pin."""
    version: int | None = Field(None, ge=0, examples=[10])
    """The policy version to pin, in place of a checkpoint. Neither: the newest checkpoint."""
    eval_episodes: int | None = Field(None, ge=1)
    eval_seed: int | None = Field(None, ge=0)
    """Seed of the panel of tasks; the same for everything that is to be compared."""
    split: str | None = Field(None, max_length=64)
    baselines: bool = False
    """Play baselines too: the task hidden, another task's sentence shown, and a random admissible actor."""
    member: str | None = Field(None, max_length=32)
    """The only member of a mixture that is measured; null: each of them."""
    name: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")

    @model_validator(mode="after")
    def _one_policy(self) -> Self:
        if self.checkpoint is not None and self.version is not None:
            raise ValueError("want at most one of `checkpoint` and `version`")
        return self


class EvaluationView(Document):
    """An evaluation: a job of kind `evaluation`."""

    id: str
    """Id of the evaluation and of its job, for events, rollouts, pause and cancel."""
    project_id: str
    name: str | None
    state: Named[JobState]
    job_id: str
    """The job whose policy is measured."""
    checkpoint: str
    """The policy that is pinned."""
    version: int | None
    """Its version in that job; null where it is not known."""
    eval_episodes: int
    eval_seed: int
    split: str
    created_unix_s: float
    finished_unix_s: float | None
    error: str | None
    result: EvaluationResult | None
    """Result of the pinned policy, label `pinned`; null until it is measured."""
    baselines: dict[str, EvaluationResult]
    """Results of baselines by label: `task_hidden`, `task_shuffled`, `random_actor`."""

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL


class EvaluationPage(Page[EvaluationView]):
    """Some evaluations, newest first."""

    @computed_field(json_schema_extra=DEPRECATED)  # type: ignore[prop-decorator]
    @property
    def evaluations(self) -> list[EvaluationView]:
        """The same as `items`."""
        return self.items


class EvaluationResultPage(Page[EvaluationResult]):
    """Some evaluations that a training made itself, in order of time."""
