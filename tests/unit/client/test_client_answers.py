"""The answers that the API documents are read whole by every call, on both clients."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from gigpo.client import GigpoClient
from services.api.http.examples import EXAMPLES
from tests.unit.client.both_clients import KINDS, ask

JOB = "/v1/jobs/j1"
CALLS: dict[str, tuple[str, str, Sequence[Any], dict[str, Any]]] = {
    "submit": ("submit_job 201", "POST /v1/jobs", [{"model": "m"}], {}),
    "dry_run": ("submit_job 200", "POST /v1/jobs", [{"model": "m"}], {}),
    "job": ("show_job 200", f"GET {JOB}", ["j1"], {}),
    "jobs": ("list_jobs 200", "GET /v1/jobs", [], {"tag": "baseline", "limit": 200}),
    "change_job": ("change_job 200", f"PATCH {JOB}", ["j1"], {"notes": "x"}),
    "remains": ("show_remains 200", f"GET {JOB}/remains", ["j1"], {}),
    "delete_job": ("delete_job 200", f"DELETE {JOB}", ["j1"], {}),
    "cancel": ("cancel_job 202", f"POST {JOB}:cancel", ["j1"], {}),
    "pause": ("pause_job 202", f"POST {JOB}:pause", ["j1"], {}),
    "resume": ("resume_job 202", f"POST {JOB}:resume", ["j1"], {}),
    "retry": ("retry_job 201", f"POST {JOB}:retry", ["j1"], {}),
    "fork": ("fork_job 201", f"POST {JOB}:fork", ["j1"], {"name": "n"}),
    "event_page": ("list_events 200", f"GET {JOB}/log", ["j1"], {}),
    "metrics": ("show_metrics 200", f"GET {JOB}/metrics", ["j1"], {}),
    "evaluations": ("list_job_evaluations 200", f"GET {JOB}/evaluations", ["j1"], {}),
    "summary": ("show_summary 200", f"GET {JOB}/summary", ["j1"], {}),
    "diagnosis": ("diagnose_job 200", f"GET {JOB}/diagnosis", ["j1"], {}),
    "states": ("list_states 200", f"GET {JOB}/states", ["j1"], {"sort": "visits"}),
    "changes": ("list_changes 200", f"GET {JOB}/changes", ["j1"], {"width": 3}),
    "watch": ("watch_job 201", f"POST {JOB}/watches", ["j1"], {"seed": 7}),
    "open_session": ("open_session 201", f"POST {JOB}/sessions", ["j1"], {}),
    "session": ("show_session 200", "GET /v1/sessions/s1", ["s1"], {}),
    "act": ("act_in_session 200", "POST /v1/sessions/s1/actions", ["s1", "go north"], {}),
    "close_session": ("close_session 200", "POST /v1/sessions/s1/close", ["s1"], {"reward": 1.0, "won": True}),
    "rollouts": ("list_rollouts 200", f"GET {JOB}/rollouts", ["j1"], {"won": "some"}),
    "rollout": ("show_rollout 200", f"GET {JOB}/rollouts/g1", ["j1", "g1"], {}),
    "anchors": ("list_anchors 200", f"GET {JOB}/anchors", ["j1"], {"batch": 4}),
    "checkpoints": ("list_checkpoints 200", f"GET {JOB}/checkpoints", ["j1"], {}),
    "evaluate": ("evaluate_policy 201", "POST /v1/evaluations", ["j1"], {"baselines": True}),
    "evaluation_jobs": ("list_evaluations 200", "GET /v1/evaluations", [], {"job_id": "j1"}),
    "evaluation": ("show_evaluation 200", "GET /v1/evaluations/e1", ["e1"], {}),
    "environments": ("list_environments 200", "GET /v1/environments", [], {}),
    "environment": ("show_environment 200", "GET /v1/environments/grid", ["grid"], {}),
    "algorithms": ("list_algorithms 200", "GET /v1/algorithms", [], {}),
    "system": ("show_system 200", "GET /v1/system", [], {}),
    "health": ("show_health 200", "GET /healthz", [], {}),
    "whoami": ("show_caller 200", "GET /v1/whoami", [], {}),
    "create_key": ("create_key 201", "POST /v1/keys", ["nightly"], {}),
    "keys": ("list_keys 200", "GET /v1/keys", [], {}),
    "key": ("show_key 200", "GET /v1/keys/k1", ["k1"], {}),
    "create_project": ("create_project 201", "POST /v1/projects", ["robots"], {}),
    "projects": ("list_projects 200", "GET /v1/projects", [], {}),
    "project": ("show_project 200", "GET /v1/projects/robots", ["robots"], {}),
    "set_quotas": ("set_quotas 200", "PATCH /v1/projects/robots", ["robots", {"max_total_steps": None}], {}),
    "dead_letters": ("list_dead_letters 200", "GET /v1/dead-letters", [], {"job_id": "j1"}),
    "dead_letter": ("show_dead_letter 200", "GET /v1/dead-letters/groups.j1.1-0", ["groups.j1.1-0"], {}),
    "retry_dead_letter": ("retry_dead_letter 200", "POST /v1/dead-letters/groups.j1.1-0:retry", ["groups.j1.1-0"], {}),
    "audit": ("list_audit_entries 200", "GET /v1/audit", [], {}),
}
"""Call -> the operation and status of its answer, what it sends, and its arguments."""
WITHOUT_DOCUMENT = {
    "close", "delete_checkpoint", "download", "download_checkpoint", "drop_dead_letter", "events", "export_checkpoint",
    "find", "metrics_csv", "revoke_key", "stop_watch", "watch_steps",
}  # fmt: skip
"""Calls that give files, streams, or nothing."""


def example(operation: str) -> Any:
    """The documented answer; a list's as its only page."""
    name, status = operation.split()
    answer = EXAMPLES[name]["answers"][status]["application/json"]
    for pointer in ("next_cursor", "next_offset"):
        if isinstance(answer, dict) and pointer in answer and name != "list_changes":
            answer = answer | {pointer: None}
    return answer


def plain(found: Any) -> Any:
    """The JSON that a call gave."""
    if isinstance(found, list):
        return [plain(one) for one in found]
    return found.model_dump(mode="json") if isinstance(found, BaseModel) else found


def holds(whole: Any, part: Any) -> bool:
    """Whether everything of `part` is in `whole` too, which may have defaults beside it."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and holds(whole[key], value) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(holds, whole, part))
    return bool(whole == part)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("call", CALLS)
def test_a_documented_answer_is_given_whole(kind: str, call: str) -> None:
    operation, sent, arguments, options = CALLS[call]
    answer, seen = example(operation), list[httpx.Request]()

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(int(operation.split()[1]), json=answer)

    found = plain(ask(kind, handler, call, *arguments, **options))
    wanted = answer["items"] if isinstance(found, list) else answer
    assert holds(found, wanted), (found, wanted)
    assert [f"{one.method} {one.url.path}" for one in seen] == [sent]
    given = dict(seen[0].url.params) | (json.loads(seen[0].content) if seen[0].content else {})
    assert holds({name: str(value) for name, value in given.items()}, {name: str(options[name]) for name in options})


def test_no_call_is_left_out() -> None:
    every = {name for name, _ in inspect.getmembers(GigpoClient, inspect.isfunction) if name[0] != "_"}
    assert every - set(CALLS) == WITHOUT_DOCUMENT
