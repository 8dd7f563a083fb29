"""The REST API as typed calls. Every call may be repeated, and is, when the connection breaks."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
from pydantic import BaseModel, ConfigDict

from client.errors import ApiRefused, NoStack
from services.contracts.summary import JobSummary

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
_RETRIES = 5
_FIRST_WAIT_S = 0.2
"""Doubles; all waits together are about 6 s, longer than a restart of the API takes (5 s)."""
_READ_S = 60.0
"""Longest silence on an event stream; the API breaks it every 15 s."""
_PASSING = frozenset({502, 503, 504})


class Job(BaseModel):
    """A job as the API shows it."""

    model_config = ConfigDict(extra="ignore")

    id: str
    name: str | None
    state: str
    wish: str
    phase: str | None
    environment: str
    advantage_estimator: str
    seed: int
    total_batches: int
    created_unix_s: float
    started_unix_s: float | None
    finished_unix_s: float | None
    error: str | None
    metrics: dict[str, Any] | None
    spec: dict[str, Any] | None = None
    """Resolved; None in lists."""

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Event(BaseModel):
    """One event of a job."""

    id: str
    kind: str
    at_unix_s: float
    data: dict[str, Any]


class CheckpointFile(BaseModel):
    name: str
    size_bytes: int


class Checkpoint(BaseModel):
    """A checkpoint in Hugging Face format."""

    name: str
    final: bool
    created_unix_s: float
    files: list[CheckpointFile]


class GigpoClient:
    """A session with one API.

    Args:
        url: e.g. http://127.0.0.1:8400.
        key: API key, where the installation wants one.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout_s: float = 30.0) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.url = url
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(self, spec: Mapping[str, Any], *, key: str | None = None) -> Job:
        """Submit a job once, however often the connection breaks; a `key` of your own makes later calls repeats too.

        Raises:
            ApiRefused: 422 for a spec that can't run, 409 for a key used with another spec.
        """
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        return Job.model_validate(self._call("POST", "/v1/jobs", json=dict(spec), headers=headers).json())

    def dry_run(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The resolved spec and its environment; nothing is stored. Raises ApiRefused as `submit` does."""
        answer = self._call("POST", "/v1/jobs", json=dict(spec), params={"dry_run": "true"}).json()
        return dict(answer)

    def job(self, job_id: str) -> Job:
        """One job, its spec included."""
        return Job.model_validate(self._call("GET", f"/v1/jobs/{job_id}").json())

    def jobs(self, *, limit: int | None = None, **filters: str) -> Iterator[Job]:
        """Jobs, newest first; filters: state, name, environment, advantage_estimator."""
        params: dict[str, str] = {"limit": str(min(limit or 200, 200)), **filters}
        seen = 0
        while True:
            page = self._call("GET", "/v1/jobs", params=params).json()
            for one in page["jobs"]:
                if limit is not None and seen == limit:
                    return
                seen += 1
                yield Job.model_validate(one)
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]

    def find(self, id_or_name: str) -> Job:
        """The job of this id, else the newest of this name. Raises ApiRefused 404."""
        try:
            return self.job(id_or_name)
        except ApiRefused as refused:
            named = next(self.jobs(limit=1, name=id_or_name), None)
            if refused.status != 404 or named is None:
                raise
            return self.job(named.id)

    def command(self, job_id: str, verb: str) -> Job:
        """`cancel`, `pause` or `resume`. Raises ApiRefused 409 when the job's state does not allow it."""
        return Job.model_validate(self._call("POST", f"/v1/jobs/{job_id}:{verb}").json())

    def events(self, job_id: str, after: str = "0-0") -> Iterator[Event]:
        """Every event after `after` once, until the job has ended; reconnects by itself.

        Raises:
            NoStack: the API did not come back within a few seconds.
        """
        failures = 0
        while True:
            try:
                for event in self._stream(job_id, after):
                    after, failures = event.id, 0
                    yield event
                if self.job(job_id).ended:
                    return
            except httpx.TransportError as error:
                failures += 1
                if failures > _RETRIES:
                    raise NoStack(f"{self.url} does not answer: {error}") from error
            time.sleep(_FIRST_WAIT_S * 2**failures)

    def metrics(self, job_id: str) -> list[dict[str, Any]]:
        """One row a batch."""
        return list(self._call("GET", f"/v1/jobs/{job_id}/metrics").json())

    def evaluations(self, job_id: str) -> list[dict[str, Any]]:
        """Every evaluation so far."""
        return list(self._call("GET", f"/v1/jobs/{job_id}/evaluations").json())

    def summary(self, job_id: str) -> JobSummary | None:
        """What an ended job says of itself; None while there is none."""
        try:
            return JobSummary.model_validate(self._call("GET", f"/v1/jobs/{job_id}/summary").json())
        except ApiRefused as refused:
            if refused.status == 404:
                return None
            raise

    def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Complete checkpoints, the final one last."""
        return [Checkpoint.model_validate(one) for one in self._call("GET", f"/v1/jobs/{job_id}/checkpoints").json()]

    def download(self, job_id: str, checkpoint: str, file: str, target: Path) -> None:
        """Write one file of a checkpoint to `target`."""
        path = f"/v1/jobs/{job_id}/checkpoints/{checkpoint}/files/{file}"
        with self._http.stream("GET", path) as answer:
            if answer.is_error:
                answer.read()
                raise _refusal(answer)
            with target.open("wb") as output:
                for chunk in answer.iter_bytes():
                    output.write(chunk)

    def environments(self) -> list[dict[str, Any]]:
        """What jobs can name, with the schema of the kwargs."""
        return list(self._call("GET", "/v1/environments").json())

    def health(self) -> dict[str, Any]:
        """Every dependency by name: `ok`, or what is wrong."""
        return dict(self._http.get("/healthz").json())

    def _stream(self, job_id: str, after: str) -> Iterator[Event]:
        timeout = httpx.Timeout(10.0, read=_READ_S)
        headers = {"Last-Event-ID": after}
        with self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
                raise _refusal(answer)
            id_ = ""
            for line in answer.iter_lines():
                field, _, value = line.partition(": ")
                if field == "id":
                    id_ = value
                elif field == "data":
                    yield Event(id=id_, **json.loads(value))

    def _call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        for attempt in range(_RETRIES + 1):
            last = attempt == _RETRIES
            try:
                answer = self._http.request(method, path, **arguments)
            except httpx.TransportError as error:
                if last:
                    raise NoStack(f"{self.url} does not answer: {error}") from error
            else:
                if answer.is_success:
                    return answer
                if last or answer.status_code not in _PASSING:
                    raise _refusal(answer)
            time.sleep(_FIRST_WAIT_S * 2**attempt)
        raise AssertionError("unreachable")


def _refusal(answer: httpx.Response) -> ApiRefused:
    try:
        problem = answer.json()
        errors = [(error["field"], error["message"]) for error in problem.get("errors", [])]
        return ApiRefused(answer.status_code, str(problem["detail"]), errors)
    except (ValueError, KeyError, TypeError):
        return ApiRefused(answer.status_code, f"HTTP {answer.status_code}: {answer.text[:200]}", [])
