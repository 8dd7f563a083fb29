"""Evaluations as jobs of their own, on a pinned policy."""

from __future__ import annotations

from collections.abc import Iterator

from gigpo.client.http.call import Call, get, given, once, reads
from gigpo.client.models import Evaluation
from gigpo.client.synchronous.base import Calls


class EvaluationCalls(Calls):
    """Everything about evaluations."""

    def evaluate(
        self,
        job_id: str,
        *,
        checkpoint: str | None = None,
        eval_episodes: int | None = None,
        eval_seed: int | None = None,
        split: str | None = None,
        member: str | None = None,
        baselines: bool = False,
        name: str | None = None,
        key: str | None = None,
    ) -> Evaluation:
        """Measure a policy of a job on held-out tasks, as a job of its own; what is None is as in the job's spec.

        Args:
            checkpoint: None: the newest.
            eval_seed: names the panel of tasks; the same for everything that is to be compared.
            member: of a mixture, the only one to measure; None: each.
            baselines: also without the task, with another one, and with random actions.
            key: see `submit`.
        """
        body = given(
            job_id=job_id,
            checkpoint=checkpoint,
            eval_episodes=eval_episodes,
            eval_seed=eval_seed,
            split=split,
            member=member,
            baselines=baselines,
            name=name,
        )
        return self._perform(Call("POST", "/v1/evaluations", reads(Evaluation), body=body, headers=once(key)))

    def evaluation_jobs(self, *, job_id: str | None = None, limit: int | None = None) -> Iterator[Evaluation]:
        """Evaluations, newest first; of one job's policies, or all."""
        return self._entries("/v1/evaluations", "evaluations", Evaluation, {"job_id": job_id}, limit=limit)

    def evaluation(self, evaluation_id: str) -> Evaluation:
        """One evaluation and, once it is measured, its result. Raises NotFound."""
        return self._perform(get("/v1/evaluations/{job_id}", Evaluation, job_id=evaluation_id))
