"""Jobs: submit, show, command, retry, fork, follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import httpx
from pydantic import JsonValue

from gigpo.client.asynchronous.base import Calls
from gigpo.client.errors import ApiRefused, NotFound
from gigpo.client.http.call import Call, QueryValue, get, given, once, reads, reads_page
from gigpo.client.http.events import EventParser, stream_of
from gigpo.client.http.retries import wait_or_raise
from gigpo.client.models import DryRun, Event, Job, JobRemains, JsonObject
from services.contracts.summary import EvaluationResult, JobSummary

_JOB = "/v1/jobs/{job_id}"


class JobCalls(Calls):
    """Everything about jobs."""

    async def submit(self, spec: Mapping[str, JsonValue], *, key: str | None = None) -> Job:
        """Submit a job once, however often the connection breaks.

        Args:
            spec: sections as in the job file; docs/api.md names them.
            key: Idempotency-Key of your own, so that later calls with it are repeats too; the first answer comes again.

        Raises:
            Invalid: the spec can't run; `errors` names the fields.
            Conflict: the key was used with another spec.
        """
        return await self._perform(Call("POST", "/v1/jobs", reads(Job), body=dict(spec), headers=once(key)))

    async def dry_run(self, spec: Mapping[str, JsonValue]) -> DryRun:
        """A trial of a submission: the resolved spec, estimates and warnings; nothing is stored.

        Raises:
            Invalid: as `submit`.
        """
        return await self._perform(Call("POST", "/v1/jobs", reads(DryRun), body=dict(spec), query={"dry_run": True}))

    async def job(self, job_id: str) -> Job:
        """One job, its spec included. Raises NotFound."""
        return await self._perform(get("/v1/jobs/{job_id}", Job, job_id=job_id))

    def jobs(
        self,
        *,
        limit: int | None = None,
        state: str | None = None,
        name: str | None = None,
        environment: str | None = None,
        advantage_estimator: str | None = None,
        kind: str | None = None,
        parent_job: str | None = None,
        created_after: float | None = None,
        created_before: float | None = None,
        tag: str | None = None,
        archived: str | None = None,
    ) -> AsyncIterator[Job]:
        """Jobs, newest first, page by page as they are wanted.

        Args:
            limit: at most so many; None: all.
            kind: `training` or `evaluation`.
            parent_job: whose retries, forks and evaluations.
            created_after, created_before: Unix seconds, inclusive and exclusive.
            archived: `no` (the default), `yes`: archived jobs alone, or `any`.
        """
        query = {
            "state": state,
            "name": name,
            "environment": environment,
            "advantage_estimator": advantage_estimator,
            "kind": kind,
            "parent_job": parent_job,
            "created_after": created_after,
            "created_before": created_before,
            "tag": tag,
            "archived": archived,
        }
        return self._entries("/v1/jobs", "jobs", Job, query, limit=limit)

    async def find(self, id_or_name: str, *, archived_first: bool = False) -> Job:
        """The job of this id, otherwise the newest of this name.

        Args:
            archived_first: whether an archived job of the name comes before the others; without, it comes after them.

        Raises:
            NotFound: there is none.
        """
        try:
            return await self.job(id_or_name)
        except NotFound:
            for archived in ("yes", "no") if archived_first else ("no", "yes"):
                newest = [one async for one in self.jobs(name=id_or_name, limit=1, archived=archived)]
                if newest:
                    return await self.job(newest[0].id)
            raise

    async def change_job(
        self,
        job_id: str,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        notes: str | None = None,
        archived: bool | None = None,
    ) -> Job:
        """Note something on a job; what is None stays as it is.

        Args:
            tags: all that the job is to have; an empty list takes them away.
            notes: an empty text takes them away.
            archived: True: lists leave the job out.

        Raises:
            Conflict: a job that has not ended can't be archived.
        """
        body = given(name=name, tags=None if tags is None else list(tags), notes=notes, archived=archived)
        return await self._perform(Call("PATCH", _JOB, reads(Job), names={"job_id": job_id}, body=body))

    async def remains(self, job_id: str) -> JobRemains:
        """The data that a deletion of the job would remove, and the data that would stay. Raises NotFound."""
        return await self._perform(get(f"{_JOB}/remains", JobRemains, job_id=job_id))

    async def delete_job(self, job_id: str) -> JobRemains | None:
        """Delete an ended job; gives what went, or None when the answer to that was lost.

        Raises:
            Conflict: the job has not ended, or a trainer is still ending it.
        """
        return await self._perform(Call("DELETE", _JOB, _remains, names={"job_id": job_id}))

    async def cancel(self, job_id: str) -> Job:
        """End the job at its next step boundary. Raises Conflict when it has ended otherwise."""
        return await self._perform(_command(job_id, "cancel"))

    async def pause(self, job_id: str) -> Job:
        """Finish the step, write a checkpoint, and wait for `resume`. Raises Conflict when it has ended."""
        return await self._perform(_command(job_id, "pause"))

    async def resume(self, job_id: str) -> Job:
        """Go on with a paused job, or take a pause back. Raises Conflict when it has ended."""
        return await self._perform(_command(job_id, "resume"))

    async def retry(self, job_id: str, *, key: str | None = None) -> Job:
        """A new job with the spec of a failed or cancelled one, which goes on from its newest checkpoint.

        Args:
            key: see `submit`.

        Raises:
            Conflict: the job has not ended, or it succeeded.
        """
        names = {"job_id": job_id}
        return await self._perform(Call("POST", "/v1/jobs/{job_id}:retry", reads(Job), names=names, headers=once(key)))

    async def fork(
        self,
        job_id: str,
        *,
        checkpoint: str | None = None,
        overrides: Mapping[str, JsonValue] | None = None,
        name: str | None = None,
        key: str | None = None,
    ) -> Job:
        """A new job whose policy begins as a checkpoint of another.

        Args:
            checkpoint: None: the newest.
            overrides: what differs in the spec, by dotted keys or nested sections.
            name: of the new job.
            key: see `submit`.

        Raises:
            NotFound: there is no such checkpoint.
            Invalid: the changed spec can't run.
        """
        body = given(checkpoint=checkpoint, overrides={**(overrides or {})}, name=name)
        path, names = "/v1/jobs/{job_id}:fork", {"job_id": job_id}
        return await self._perform(Call("POST", path, reads(Job), names=names, body=body, headers=once(key)))

    async def events(self, job_id: str, after: str = "0-0", *, follow: bool = True) -> AsyncIterator[Event]:
        """Every event after the id `after` once; reconnects by itself.

        Args:
            follow: until the job has ended; False: those that there are.

        Raises:
            Unreachable: the API did not come back.
        """
        attempt = 0
        while True:
            parser = EventParser()
            try:
                async with self._opened(stream_of(job_id, after, follow=follow)) as answer:
                    async for chunk in answer.aiter_bytes():
                        for event in parser.feed(chunk):
                            after, attempt = event.id, 0
                            yield event
                if not follow or (await self.job(job_id)).ended:  # a stream that was cut may end well
                    return
                wait_s = self.retries.first_wait_s
            except (httpx.TransportError, ApiRefused) as error:
                wait_s = wait_or_raise(error, attempt, self.retries)
                attempt += 1
            await asyncio.sleep(wait_s)

    async def event_page(self, job_id: str, after: str = "0-0", *, limit: int = 500) -> list[Event]:
        """At most `limit` events after the id `after` that there are: `events` without a stream."""
        query: dict[str, QueryValue] = {"cursor": after, "limit": limit}
        call = Call("GET", f"{_JOB}/log", reads_page("items", Event), names={"job_id": job_id}, query=query)
        return (await self._perform(call)).entries

    async def metrics(self, job_id: str) -> list[JsonObject]:
        """One row a batch."""
        return await self._all("/v1/jobs/{job_id}/metrics", JsonObject, job_id=job_id)

    async def metrics_csv(self, job_id: str) -> str:
        """The same as CSV with a header."""
        names = {"job_id": job_id}
        csv = Call("GET", "/v1/jobs/{job_id}/metrics", lambda got: got.text, names=names, query={"format": "csv"})
        return await self._perform(csv)

    async def evaluations(self, job_id: str) -> list[EvaluationResult]:
        """Every evaluation that the job itself made so far, in order of time."""
        return await self._all("/v1/jobs/{job_id}/evaluations", EvaluationResult, job_id=job_id)

    async def summary(self, job_id: str) -> JobSummary | None:
        """The summary of an ended job; None while there is none."""
        try:
            return await self._perform(get("/v1/jobs/{job_id}/summary", JobSummary, job_id=job_id))
        except NotFound:
            await self.job(job_id)  # no such job is another thing than no summary yet
            return None


def _remains(answer: httpx.Response) -> JobRemains | None:
    return None if answer.status_code == 204 else reads(JobRemains)(answer)


def _command(job_id: str, verb: str) -> Call[Job]:
    return Call("POST", f"/v1/jobs/{{job_id}}:{verb}", reads(Job), names={"job_id": job_id})
