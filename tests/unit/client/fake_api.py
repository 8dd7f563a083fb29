"""An API of canned answers behind the whole `gigpo` command, without a socket or a process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import httpx
import pytest

from gigpo.client import GigpoClient
from gigpo.client.main import main
from services.contracts.summary import JobSummary
from tests.unit.client.both_clients import AT_ONCE, job, problem

URL = "http://api"


class FakeApi:
    """Answers requests by `METHOD path` and remembers them; what it does not know is a 404."""

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers: dict[str, Any] = dict(answers or {})
        """JSON bodies, whole responses, or what makes a body anew for each request."""
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.get(f"{request.method} {request.url.path}")
        if answer is None:
            return problem(404, f"no {request.url.path}")
        if callable(answer):
            answer = answer()
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        return httpx.Response(200, json=answer)

    def has(self, *jobs: dict[str, Any]) -> None:
        """Jobs, newest first, by id and in the list."""
        self.answers |= {f"GET /v1/jobs/{one['id']}": one for one in jobs}
        self.answers["GET /v1/jobs"] = {"jobs": list(jobs), "next_cursor": None}

    def says(self, job_id: str, *events: tuple[str, dict[str, Any]]) -> None:
        """The events of a job: (kind, data)."""
        lines = [
            f"id: {at}-0\ndata: {json.dumps({'kind': kind, 'at_unix_s': float(at), 'data': data})}\n\n"
            for at, (kind, data) in enumerate(events, 1)
        ]
        self.answers[f"GET /v1/jobs/{job_id}/events"] = httpx.Response(200, content="".join(lines))

    def body(self, at: int = -1) -> Any:
        """The JSON body of a request."""
        return json.loads(self.requests[at].content)

    def query(self, at: int = -1) -> dict[str, str]:
        """The parameters of a request."""
        return dict(self.requests[at].url.params)


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The words of each line of a table."""
        return [line.split() for line in self.out.splitlines()]


Gigpo = Callable[..., Done]


def command_line(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, known: bool = True
) -> Gigpo:
    """`gigpo`, which finds the fake API at any address; without `known` it is told of none."""
    client = partial(GigpoClient, transport=httpx.MockTransport(api), retries=AT_ONCE)
    monkeypatch.setattr("gigpo.client.session.GigpoClient", client)
    monkeypatch.setattr("gigpo.client.doctor.services.GigpoClient", lambda url, key, **_: client(url, key))
    for name in ("GIGPO_API_KEY", "GIGPO_API_URL", "GIGPO_RUNS"):
        monkeypatch.delenv(name, raising=False)
    if known:
        monkeypatch.setenv("GIGPO_API_URL", URL)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["gigpo", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        return Done(int(ended.value.code or 0), written.out, written.err)

    return run


def evaluation(label: str = "after", success: float = 0.9) -> dict[str, Any]:
    """An evaluation's result as the API shows it."""
    return {
        "label": label,
        "version": 3,
        "episodes": 64,
        "success": success,
        "standard_error": 0.0375,
        "return_mean": success,
        "length_mean": 8.0,
        "invalid_share": 0.01,
        "split": "test",
        "mismatch_kl": None,
    }


def evaluation_job(**fields: Any) -> dict[str, Any]:
    """An evaluation as a job of its own."""
    return {
        "id": "e1",
        "project_id": "default",
        "name": None,
        "state": "SUCCEEDED",
        "job_id": "j1",
        "checkpoint": "final",
        "version": 3,
        "eval_episodes": 1024,
        "eval_seed": 7,
        "split": "test",
        "created_unix_s": 1.0,
        "finished_unix_s": 2.0,
        "error": None,
        "result": evaluation("pinned", 0.5),
        "baselines": {"random_actor": evaluation("random_actor", 0.1)},
        **fields,
    }


def summary(**fields: Any) -> dict[str, Any]:
    """A job's summary as the API shows it."""
    told = {
        "job_id": "j1",
        "name": "demo",
        "state": "SUCCEEDED",
        "success_before": 0.1,
        "success_after": 0.9,
        "evaluations": [evaluation("before", 0.1), evaluation("after", 0.9)],
        "env_steps": 100,
        "trained_steps": 100,
        "trained_tokens": 200,
        "sampled_tokens": 200,
        "optimizer_steps": 24,
        "batches": 3,
        "wall_s": 12.5,
        "engine": "vllm",
        "advantage_estimator": "gigpo",
        "ledger": {"opened": 3, "consumed": 3, "dropped": {}, "live": 0, "retried": 0},
        "mismatch_kl_mean": 0.001,
        "checkpoint": "final",
        "seed": 0,
        "stale_max": 1,
        "phases_s": {"training": 10.0},
        **fields,
    }
    return JobSummary.model_validate(told).model_dump(mode="json")


def key(**fields: Any) -> dict[str, Any]:
    """An API key as the API shows it."""
    return {
        "id": "k1",
        "name": "nightly",
        "prefix": "gk_ab",
        "scopes": ["read", "submit"],
        "project": "default",
        "created_unix_s": 1.0,
        "expires_unix_s": None,
        "revoked_unix_s": None,
        "last_used_unix_s": None,
        **fields,
    }


def project(**fields: Any) -> dict[str, Any]:
    """A project as the API shows it."""
    quotas = {"max_concurrent_jobs": 4, "max_total_steps": None, "max_storage_bytes": 10**9}
    usage = {"concurrent_jobs": 2, "total_steps": 1234, "storage_bytes": 5678}
    return {"id": "robots", "created_unix_s": 1.0, "quotas": quotas, "usage": usage, **fields}


__all__ = [
    "URL",
    "Done",
    "FakeApi",
    "Gigpo",
    "command_line",
    "evaluation",
    "evaluation_job",
    "job",
    "key",
    "project",
    "summary",
]
