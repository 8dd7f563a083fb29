"""What a job's figures mean: its diagnosis, its states, and what changed."""

from __future__ import annotations

from collections.abc import AsyncIterator

from gigpo.client.asynchronous.base import Calls
from gigpo.client.http.call import get
from gigpo.client.models import Changes, Diagnosis, State


class InsightCalls(Calls):
    """Everything that explains a job."""

    async def diagnosis(self, job_id: str) -> Diagnosis:
        """What keeps a job from learning: findings with their figures, what they mean, and what to do."""
        return await self._perform(get("/v1/jobs/{job_id}/diagnosis", Diagnosis, job_id=job_id))

    def states(
        self,
        job_id: str,
        *,
        purpose: str | None = None,
        from_batch: int | None = None,
        to_batch: int | None = None,
        width: int | None = None,
        sort: str | None = None,
        text: str | None = None,
        min_visits: int | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[State]:
        """States of whole batches: what was done there, and how far that stays behind the best action seen.

        Args:
            purpose: `training` (the default) or `evaluation`.
            from_batch, to_batch: bounds of the batches; of them the newest `width` are taken.
            sort: `regret` (the default), `visits` or `return`, the lowest first.
            text: only states whose task or anchor holds it.
            min_visits: only states visited so often; the API's default is 5.
            limit: at most so many; None: all.
        """
        query = {
            "purpose": purpose,
            "from_batch": from_batch,
            "to_batch": to_batch,
            "width": width,
            "sort": sort,
            "text": text,
            "min_visits": min_visits,
        }
        return self._entries("/v1/jobs/{job_id}/states", "items", State, query, limit=limit, job_id=job_id)

    async def changes(
        self,
        job_id: str,
        *,
        with_job: str | None = None,
        from_batch: int | None = None,
        to_batch: int | None = None,
        width: int | None = None,
        purpose: str | None = None,
        min_visits: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Changes:
        """The states in which the policy chooses otherwise, those that moved furthest beyond chance first.

        Args:
            with_job: compare this job's newest batches with those of `job_id`; None: batches of one job.
            from_batch, to_batch: where the earlier side begins and the later one ends; None: oldest and newest.
            width: stored batches on either side; the API's default is 5.
            min_visits: of a state on either side; the API's default is 5.
            limit: entries of this page, at most 200.
            cursor: `next_cursor` of the page before.
        """
        query = {
            "with_job": with_job,
            "from_batch": from_batch,
            "to_batch": to_batch,
            "width": width,
            "purpose": purpose,
            "min_visits": min_visits,
            "limit": limit,
            "cursor": cursor,
        }
        return await self._perform(get("/v1/jobs/{job_id}/changes", Changes, query, job_id=job_id))
