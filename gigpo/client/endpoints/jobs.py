"""Jobs: submit, look, steer, begin again, listen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gigpo.client.endpoints.base import Calls, given, once
from gigpo.client.errors import NotFound
from gigpo.client.http.binding import endpoint, source
from gigpo.client.http.call import Call, get, nothing, reads
from gigpo.client.http.events import followed
from gigpo.client.http.flow import Flow, Source
from gigpo.client.models.jobs import DryRun, Event, Job
from services.contracts.summary import EvaluationResult, JobSummary


class JobCalls(Calls):
    """Everything about jobs."""

    @endpoint
    def submit(self, spec: Mapping[str, Any], *, key: str | None = None) -> Flow[Job]:
        """Submit a job once, however often the connection breaks.

        Args:
            spec: sections as in the job file; docs/api.md names them.
            key: Idempotency-Key of your own, so that later calls with it are repeats too; the first answer comes again.

        Raises:
            Invalid: the spec can't run; `errors` names the fields.
            Conflict: the key was used with another spec.
        """
        return self._perform(Call("POST", "/v1/jobs", reads(Job), body=dict(spec), headers=once(key)))

    @endpoint
    def dry_run(self, spec: Mapping[str, Any]) -> Flow[DryRun]:
        """What a submission would run: the resolved spec, estimates and warnings; nothing is stored.

        Raises:
            Invalid: as `submit`.
        """
        return self._perform(Call("POST", "/v1/jobs", reads(DryRun), body=dict(spec), query={"dry_run": True}))

    @endpoint
    def job(self, job_id: str) -> Flow[Job]:
        """One job, its spec included. Raises NotFound."""
        return self._perform(_job(job_id))

    @source
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
    ) -> Source[Job]:
        """Jobs, newest first, page by page as they are wanted.

        Args:
            limit: at most so many; None: all.
            kind: `training` or `evaluation`.
            parent_job: whose retries, forks and evaluations.
            created_after, created_before: Unix seconds, inclusive and exclusive.
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
        }
        return self._entries("/v1/jobs", "jobs", Job, query, limit=limit)

    @endpoint
    def find(self, id_or_name: str) -> Flow[Job]:
        """The job of this id, else the newest of this name. Raises NotFound."""
        try:
            return (yield from self._perform(_job(id_or_name)))
        except NotFound:
            named = get("/v1/jobs", dict[str, Any], {"name": id_or_name, "limit": 1})
            found = (yield from self._perform(named))["jobs"]
            if not found:
                raise
        return (yield from self._perform(_job(found[0]["id"])))

    @endpoint
    def cancel(self, job_id: str) -> Flow[Job]:
        """End the job at its next step boundary. Raises Conflict when it has ended otherwise."""
        return self._perform(_command(job_id, "cancel"))

    @endpoint
    def pause(self, job_id: str) -> Flow[Job]:
        """Finish the step, write a checkpoint, and wait for `resume`. Raises Conflict when it has ended."""
        return self._perform(_command(job_id, "pause"))

    @endpoint
    def resume(self, job_id: str) -> Flow[Job]:
        """Go on with a paused job, or take a pause back. Raises Conflict when it has ended."""
        return self._perform(_command(job_id, "resume"))

    @endpoint
    def retry(self, job_id: str, *, key: str | None = None) -> Flow[Job]:
        """A new job with the spec of a failed or cancelled one, which goes on from its newest checkpoint.

        Args:
            key: see `submit`.

        Raises:
            Conflict: the job has not ended, or it succeeded.
        """
        names = {"job_id": job_id}
        return self._perform(Call("POST", "/v1/jobs/{job_id}:retry", reads(Job), names=names, headers=once(key)))

    @endpoint
    def fork(
        self,
        job_id: str,
        *,
        checkpoint: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        name: str | None = None,
        key: str | None = None,
    ) -> Flow[Job]:
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
        body = given(checkpoint=checkpoint, overrides=dict(overrides or {}), name=name)
        path, names = "/v1/jobs/{job_id}:fork", {"job_id": job_id}
        return self._perform(Call("POST", path, reads(Job), names=names, body=body, headers=once(key)))

    @source
    def events(self, job_id: str, after: str = "0-0", *, follow: bool = True) -> Source[Event]:
        """Every event after the id `after` once; reconnects by itself.

        Args:
            follow: until the job has ended; False: those that there are.

        Raises:
            Unreachable: the API did not come back.
        """
        query = {} if follow else {"follow": False}
        stream = Call("GET", "/v1/jobs/{job_id}/events", nothing, names={"job_id": job_id}, query=query)
        return followed(_job(job_id), stream, after, self.retries, to_end=follow)

    @endpoint
    def metrics(self, job_id: str) -> Flow[list[dict[str, Any]]]:
        """One row a batch."""
        return self._perform(get("/v1/jobs/{job_id}/metrics", list[dict[str, Any]], job_id=job_id))

    @endpoint
    def metrics_csv(self, job_id: str) -> Flow[str]:
        """The same as CSV with a header."""
        names = {"job_id": job_id}
        csv = Call("GET", "/v1/jobs/{job_id}/metrics", lambda got: got.text, names=names, query={"format": "csv"})
        return self._perform(csv)

    @endpoint
    def evaluations(self, job_id: str) -> Flow[list[EvaluationResult]]:
        """Every evaluation that the job itself made so far, in order of time."""
        return self._perform(get("/v1/jobs/{job_id}/evaluations", list[EvaluationResult], job_id=job_id))

    @endpoint
    def summary(self, job_id: str) -> Flow[JobSummary | None]:
        """What an ended job says of itself; None while there is none."""
        summary: Call[JobSummary] = get("/v1/jobs/{job_id}/summary", JobSummary, job_id=job_id)
        try:
            return (yield from self._perform(summary))
        except NotFound:
            yield from self._perform(_job(job_id))  # no such job is another thing than no summary yet
            return None


def _job(job_id: str) -> Call[Job]:
    return get("/v1/jobs/{job_id}", Job, job_id=job_id)


def _command(job_id: str, verb: str) -> Call[Job]:
    return Call("POST", f"/v1/jobs/{{job_id}}:{verb}", reads(Job), names={"job_id": job_id})
