"""The meaning of a job's figures: its diagnosis, its states, its changes, and an episode that is watched."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx

from gigpo.client.errors import ApiRefused
from gigpo.client.http.call import Call, get, given, nothing, reads
from gigpo.client.http.events import EventParser, watch_stream_of
from gigpo.client.http.retries import wait_or_raise
from gigpo.client.models import Changes, Diagnosis, Event, State, Watch
from gigpo.client.synchronous.base import Calls

_OVER = frozenset({"ended", "failed"})
"""The kinds of the last event of a watch."""


class InsightCalls(Calls):
    """Everything that explains a job."""

    def diagnosis(self, job_id: str) -> Diagnosis:
        """Obstacles to a job's learning: findings with their figures, their meaning, and the remedy."""
        return self._perform(get("/v1/jobs/{job_id}/diagnosis", Diagnosis, job_id=job_id))

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
    ) -> Iterator[State]:
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

    def changes(
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
            cursor: `next_cursor` of the previous page.
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
        return self._perform(get("/v1/jobs/{job_id}/changes", Changes, query, job_id=job_id))

    def watch(
        self,
        job_id: str,
        *,
        checkpoint: str | None = None,
        seed: int | None = None,
        split: str | None = None,
        member: str | None = None,
    ) -> Watch:
        """Let a policy of the job play one episode to be watched; `watch_steps` says what happens.

        Args:
            checkpoint: None: of a running job the version that it serves, of another one the newest.
            seed: names the task; None: any.
            member: of a mixture, the one that the task is of; None: the seed names it.
            split: None: the one that the job evaluates on.

        Raises:
            NotFound, Invalid; Conflict: the job has no checkpoint yet.
        """
        body = given(checkpoint=checkpoint, seed=seed, split=split, member=member)
        path, names = "/v1/jobs/{job_id}/watches", {"job_id": job_id}
        return self._perform(Call("POST", path, reads(Watch), names=names, body=body, repeatable=False))

    def watch_steps(self, job_id: str, watch_id: str) -> Iterator[Event]:
        """The events of a watched episode, as they happen, to its end; reconnects by itself.

        Kinds: `waiting`, `began`, `state` (with `seen`: what the job's rollouts know of it), `step`, `ended`, `failed`.

        Raises:
            NotFound: nobody asked for a minute, so it is forgotten.
            Unreachable: the API did not come back.
        """
        attempt, after = 0, ""
        while True:
            parser = EventParser()
            try:
                with self._opened(watch_stream_of(job_id, watch_id, after)) as answer:
                    for chunk in answer.iter_bytes():
                        for event in parser.feed(chunk):
                            after, attempt = event.id, 0
                            yield event
                            if event.kind in _OVER:
                                return
                wait_s = self.retries.first_wait_s
            except (httpx.TransportError, ApiRefused) as error:
                wait_s = wait_or_raise(error, attempt, self.retries)
                attempt += 1
            time.sleep(wait_s)

    def stop_watch(self, job_id: str, watch_id: str) -> None:
        """Stop a watched episode. Raises NotFound when it is over or forgotten."""
        path, names = "/v1/jobs/{job_id}/watches/{watch_id}", {"job_id": job_id, "watch_id": watch_id}
        return self._perform(Call("DELETE", path, nothing, names=names))
