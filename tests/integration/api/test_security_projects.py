"""One project does not see another's: every call of the OpenAPI document has a rule here, a new one must get one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import pytest
from redis import Redis

from services.contracts import keys
from services.contracts.agents import SessionRecord
from services.contracts.agents import encoded as encoded_record
from services.contracts.watching import FIELD, PlayEnded, encoded
from services.kit.dead_letters import dead_letters
from tests.integration.api.job_leftovers import GROUP, leave_results, summary
from tests.integration.api.keyed_api import SPEC, KeyedApi
from tests.integration.api.submitting import until


@dataclass(frozen=True)
class Rule:
    """The demands of a call, and its answer to the ids of another project."""

    scope: Literal["nothing", "any", "read", "submit", "admin"]
    foreign: Literal["404", "nothing of it", "the same"]
    body: dict[str, Any] | None = None
    others: dict[str, str] = field(default_factory=dict)


JOB, READ = "/v1/jobs/{job_id}", Rule("read", "404")
RULES = {
    "GET /healthz": Rule("nothing", "the same"),
    "GET /v1/whoami": Rule("any", "nothing of it"),
    "GET /v1/algorithms": Rule("read", "the same"),
    "GET /v1/environments": Rule("read", "the same"),
    "GET /v1/environments/{environment_id}": Rule("read", "the same"),
    "GET /v1/system": Rule("read", "nothing of it"),
    "GET /v1/jobs": Rule("read", "nothing of it"),
    "POST /v1/jobs": Rule("submit", "nothing of it", SPEC),
    "GET /v1/evaluations": Rule("read", "nothing of it"),
    "POST /v1/evaluations": Rule("submit", "404", {"job_id": "{job_id}"}),
    "GET /v1/evaluations/{job_id}": Rule("read", "404", others={"job_id": "evaluation"}),
    f"GET {JOB}": READ,
    f"PATCH {JOB}": Rule("submit", "404", {"tags": ["mine"]}),
    f"DELETE {JOB}": Rule("submit", "404", others={"job_id": "spare"}),
    f"GET {JOB}/remains": READ,
    f"GET {JOB}/summary": READ,
    f"GET {JOB}/events": READ,
    f"GET {JOB}/log": READ,
    f"GET {JOB}/metrics": READ,
    f"GET {JOB}/evaluations": READ,
    f"GET {JOB}/rollouts": READ,
    f"GET {JOB}/rollouts/{{group_id}}": READ,
    f"GET {JOB}/anchors": READ,
    f"GET {JOB}/diagnosis": READ,
    f"GET {JOB}/states": READ,
    f"GET {JOB}/changes": READ,
    f"POST {JOB}/watches": Rule("submit", "404", {}),
    f"GET {JOB}/watches/{{watch_id}}": READ,
    f"DELETE {JOB}/watches/{{watch_id}}": Rule("submit", "404"),
    f"POST {JOB}/sessions": Rule("submit", "404"),
    "GET /v1/sessions/{session_id}": READ,
    "GET /v1/sessions/{session_id}/models": READ,
    "POST /v1/sessions/{session_id}/chat/completions": Rule(
        "submit", "404", {"messages": [{"role": "user", "content": "hello"}]}
    ),
    "POST /v1/sessions/{session_id}/actions": Rule("submit", "404", {"action": "go"}),
    "POST /v1/sessions/{session_id}/close": Rule("submit", "404", {}),
    f"GET {JOB}/checkpoints": READ,
    f"GET {JOB}/checkpoints/{{name}}/export": READ,
    f"GET {JOB}/checkpoints/{{name}}/files/{{file}}": READ,
    f"POST {JOB}:pause": Rule("submit", "404", others={"job_id": "queued"}),
    f"POST {JOB}:resume": Rule("submit", "404", others={"job_id": "queued"}),
    f"POST {JOB}:cancel": Rule("submit", "404", others={"job_id": "queued"}),
    f"POST {JOB}:retry": Rule("submit", "404"),
    f"POST {JOB}:fork": Rule("submit", "404", {}),
    f"DELETE {JOB}/checkpoints/{{name}}": Rule("submit", "404"),
    "GET /v1/dead-letters": Rule("read", "nothing of it"),
    "GET /v1/dead-letters/{letter_id}": READ,
    "POST /v1/dead-letters/{letter_id}:retry": Rule("submit", "404"),
    "DELETE /v1/dead-letters/{letter_id}": Rule("submit", "404", others={"letter_id": "spare_letter"}),
    "GET /v1/keys": Rule("admin", "the same"),
    "POST /v1/keys": Rule("admin", "the same", {"name": "made", "scopes": ["read"]}),
    "GET /v1/keys/{key_id}": Rule("admin", "the same"),
    "DELETE /v1/keys/{key_id}": Rule("admin", "the same"),
    "GET /v1/projects": Rule("admin", "the same"),
    "POST /v1/projects": Rule("admin", "the same", {"id": "made"}),
    "GET /v1/projects/{project_id}": Rule("admin", "the same"),
    "PATCH /v1/projects/{project_id}": Rule("admin", "the same", {}),
    "GET /v1/audit": Rule("admin", "the same"),
}


@dataclass
class Teams:
    """A job of alpha's with everything it can leave, and clients of both teams and of every scope."""

    keyed: KeyedApi
    ids: dict[str, str]
    queued: str
    spare: str
    """A job that has ended and that nothing else asks for."""
    evaluation: str
    clients: dict[str, httpx.Client]

    def call(self, who: str, name: str) -> httpx.Response:
        method, _, path = name.partition(" ")
        rule, ids = RULES[name], dict(self.ids)
        others = {"queued": self.queued, "spare": self.spare, "evaluation": self.evaluation, **self.ids}
        ids |= {name: others[other] for name, other in rule.others.items()}
        body = rule.body and {key: ids["job_id"] if value == "{job_id}" else value for key, value in rule.body.items()}
        return self.clients[who].request(method, path.format(**ids), json=body if rule.body is not None else None)


@pytest.fixture(scope="module")
def teams(keyed: KeyedApi) -> Iterator[Teams]:
    held = {
        "nobody": None,
        "alpha": keyed.new_key("read", "submit", project="alpha")["key"],
        "beta": keyed.new_key("read", "submit", project="beta")["key"],
        "reader": keyed.new_key("read", project="alpha")["key"],
        "submitter": keyed.new_key("submit", project="alpha")["key"],
    }
    clients = {name: keyed.client(key) for name, key in held.items()}
    job, queued, spare, evaluation = _work(keyed, clients["alpha"])
    victim = keyed.new_key("read", project="alpha")["id"]
    ids = {
        "job_id": job,
        "group_id": GROUP,
        "letter_id": _letter(keyed, job),
        "spare_letter": _letter(keyed, job),
        "watch_id": _watched(keyed, job),
        "session_id": _session(keyed, job),
        "name": "final",
        "file": "config.json",
        "environment_id": "grid",
        "key_id": victim,
        "project_id": "alpha",
    }
    yield Teams(keyed, ids, queued, spare, evaluation, {**clients, "admin": keyed.admin})
    for client in clients.values():
        client.close()


def _session(keyed: KeyedApi, job: str) -> str:
    """The id of an episode of the job that an outside agent played."""
    record = SessionRecord(
        session_id=f"{job}.0c3f5a2b", job_id=job, worker="w", state="closed", group_id="t1", purpose="train", k=0,
        seed=0, split="train", task="secret task", observation="", admissible_actions=[], max_turns=1, timeout_s=1.0,
    )  # fmt: skip
    with Redis.from_url(keyed.api.redis_url) as client:
        client.set(keys.session(job, record.session_id), encoded_record(record))
    return record.session_id


def _watched(keyed: KeyedApi, job: str) -> str:
    """The id of an episode of the job that was watched to its end."""
    end = PlayEnded(won=True, score=1.0, steps=3, return_sum=1.0, out_of_turns=False)
    with Redis.from_url(keyed.api.redis_url) as redis:
        redis.xadd(keys.watch(job, "w1"), {FIELD: encoded(end)})
    return "w1"


def _letter(keyed: KeyedApi, job: str) -> str:
    """The id of a dead letter of the job."""
    with Redis.from_url(keyed.api.redis_url) as redis:
        letter: Any = redis.xadd(dead_letters(keys.groups_stream(job)), {"p": "x", "cause": "poison", "id": "1-1"})
    return f"groups.{job}.{letter.decode()}"


def _work(keyed: KeyedApi, alpha: httpx.Client) -> tuple[str, str, str, str]:
    """A failed job with results and a summary, one in the queue, a failed one, and an evaluation of the first."""
    job, queued, spare = (alpha.post("/v1/jobs", json=SPEC).raise_for_status().json()["id"] for _ in range(3))
    leave_results(keyed.api.data_dir, job)
    keyed.api.say(job, "metrics", batch=0, success=0.5)
    keyed.api.say(job, "summary", **summary(job))
    for failed in (job, spare):
        keyed.api.say(failed, "state", state="FAILED", error="out of memory")
        until(alpha, failed, "FAILED")
    evaluation = alpha.post("/v1/evaluations", json={"job_id": job, "checkpoint": "final"}).raise_for_status()
    return job, queued, spare, evaluation.json()["id"]


def test_every_call_of_the_document_has_a_rule(teams: Teams) -> None:
    document = teams.keyed.admin.get("/openapi.json").json()
    found = {f"{method.upper()} {path}" for path, calls in document["paths"].items() for method in calls}
    assert found == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_without_a_key_there_is_nothing_but_health(teams: Teams, name: str) -> None:
    answer = teams.call("nobody", name)
    assert answer.status_code == (200 if RULES[name].scope == "nothing" else 401)


@pytest.mark.parametrize("name", RULES)
def test_a_key_without_the_scope_is_refused(teams: Teams, name: str) -> None:
    others = {"read": ["submitter"], "submit": ["reader"], "admin": ["reader", "submitter", "alpha"]}
    for who in others.get(RULES[name].scope, []):
        answer = teams.call(who, name)
        assert (answer.status_code, f"scope {RULES[name].scope}" in answer.text) == (403, True)


@pytest.mark.parametrize("name", RULES)
def test_another_project_finds_nothing(teams: Teams, name: str) -> None:
    rule = RULES[name]
    answer = teams.call("beta", name)
    if rule.scope == "admin":
        assert answer.status_code == 403
    elif rule.foreign == "404":
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), answer.text
    else:
        assert answer.status_code < 300
        told = answer.text
        assert rule.foreign == "the same" or not [
            one for one in (teams.ids["job_id"], teams.queued, teams.evaluation) if one in told
        ]


def test_another_project_learns_nothing_by_naming_what_is_not_its_own(teams: Teams) -> None:
    beta, alpha, job = teams.clients["beta"], teams.clients["alpha"], teams.ids["job_id"]
    named = {**SPEC, "model": {"model": f"job:{job}/final"}}
    assert alpha.post("/v1/jobs?dry_run=true", json=named).status_code == 200
    refused, unknown = (
        beta.post("/v1/jobs?dry_run=true", json={**SPEC, "model": {"model": f"job:{one}/final"}}) for one in (job, "j1")
    )
    assert (refused.status_code, unknown.status_code) == (422, 422)
    assert refused.text.replace(job, "j1") == unknown.text
    assert beta.get("/v1/jobs", params={"parent_job": job}).json()["jobs"] == []
    first = alpha.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "shared"})
    second = beta.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "shared"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]


def test_an_administrator_sees_every_project(teams: Teams) -> None:
    ids = {one["id"] for one in teams.keyed.admin.get("/v1/jobs", params={"limit": 200}).json()["jobs"]}
    assert {teams.ids["job_id"], teams.queued} <= ids
    assert teams.keyed.admin.get(f"/v1/jobs/{teams.queued}").status_code == 200


def test_what_an_administrator_makes_of_a_teams_job_belongs_to_the_team(teams: Teams) -> None:
    admin, alpha, job = teams.keyed.admin, teams.clients["alpha"], teams.ids["job_id"]
    for path, body in {
        f"/v1/jobs/{job}:retry": None,
        f"/v1/jobs/{job}:fork": {},
        "/v1/evaluations": {"job_id": job, "checkpoint": "final"},
    }.items():
        key = {"Idempotency-Key": f"administrator {path}"}
        made = admin.post(path, json=body, headers=key)
        assert (made.status_code, made.json()["project_id"]) == (201, "alpha"), made.text
        found = alpha.get(f"/v1/jobs/{made.json()['id']}").raise_for_status().json()
        assert (found["submitted_by"], found["key_id"]) == ("the key of the settings", None)
        again = admin.post(path, json=body, headers=key)
        assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])
        assert alpha.post(path, json=body, headers=key).json()["id"] == made.json()["id"], "keys are the project's"


def test_what_a_service_is_at_is_shown_to_administrators_alone(teams: Teams) -> None:
    beat = {"service": "rollout", "instance": "one", "pid": 1, "detail": {"jobs": [teams.queued]}}
    with Redis.from_url(teams.keyed.api.redis_url) as redis:
        redis.set(keys.service_heartbeat("rollout", "one"), json.dumps(beat), ex=60)
    for path in ("/v1/system", "/system"):
        assert teams.queued in teams.keyed.admin.get(path).raise_for_status().text
        theirs = teams.clients["beta"].get(path).raise_for_status().text
        assert "rollout" in theirs
        assert teams.queued not in theirs


@pytest.mark.parametrize("name", sorted(RULES, key=lambda one: (one.startswith(("POST", "DELETE")), one)))
def test_whoever_it_belongs_to_finds_it(teams: Teams, name: str) -> None:
    """So the answers above are about the project and not about a wrong path. Last: it changes things."""
    answer = teams.call("admin" if RULES[name].scope == "admin" else "alpha", name)
    assert answer.status_code < 300 or (answer.status_code in (409, 410) and name.startswith("POST")), answer.text
