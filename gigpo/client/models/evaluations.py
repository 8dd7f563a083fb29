"""Evaluations as jobs of their own."""

from __future__ import annotations

from gigpo.client.models.base import Answer
from gigpo.client.models.jobs import ENDED
from services.contracts.summary import EvaluationResult


class Evaluation(Answer):
    """A pinned policy on a panel of tasks."""

    id: str
    """Also the id of its job, for events, rollouts, pause and cancel."""
    name: str | None
    state: str
    job_id: str
    """The job whose policy is measured."""
    checkpoint: str
    """The policy that is pinned."""
    eval_episodes: int
    eval_seed: int
    split: str
    created_unix_s: float
    finished_unix_s: float | None
    error: str | None
    result: EvaluationResult | None
    """Of the pinned policy; None until it is measured."""
    baselines: dict[str, EvaluationResult]
    """By label: `task_hidden`, `task_shuffled`, `random_actor`."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED
