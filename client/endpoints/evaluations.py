"""Evaluations as jobs of their own, on a pinned policy version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from client.endpoints.base import Calls, once
from client.http.binding import endpoint
from client.http.call import Call, get, reads
from client.http.flow import Flow
from client.models.jobs import Job


class EvaluationCalls(Calls):
    """Everything about evaluations."""

    @endpoint
    def evaluate(
        self,
        job_id: str,
        *,
        checkpoint: str | None = None,
        episodes: int | None = None,
        seed: int | None = None,
        split: str | None = None,
        baselines: bool | Sequence[str] | None = None,
        name: str | None = None,
        key: str | None = None,
    ) -> Flow[Job]:
        """Measure a checkpoint on held-out tasks, as a job of its own.

        Args:
            job_id: whose checkpoint.
            checkpoint: None: the final one, else the newest.
            episodes, seed, split: the panel of tasks; None: as the job has it.
            baselines: also without the task, with another one, and with random actions.
            key: see `submit`.
        """
        body = {
            "job_id": job_id,
            "checkpoint": checkpoint,
            "eval_episodes": episodes,
            "eval_seed": seed,
            "split": split,
            "baselines": baselines,
            "name": name,
        }
        wanted = {field: value for field, value in body.items() if value is not None}
        return self._perform(Call("POST", "/v1/evaluations", reads(Job), body=wanted, headers=once(key)))

    @endpoint
    def evaluation_jobs(self, *, job_id: str | None = None) -> Flow[list[dict[str, Any]]]:
        """Evaluations, newest first; of one job's checkpoints, or all."""
        return self._perform(get("/v1/evaluations", list[dict[str, Any]], {"job_id": job_id}))

    @endpoint
    def evaluation(self, evaluation_id: str) -> Flow[dict[str, Any]]:
        """One evaluation with its results so far. Raises NotFound."""
        path = "/v1/evaluations/{evaluation_id}"
        return self._perform(get(path, dict[str, Any], evaluation_id=evaluation_id))
