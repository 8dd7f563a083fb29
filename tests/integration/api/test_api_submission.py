"""Submission over REST: what is accepted, what is refused, and what the trainer is told."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from redis import Redis

from services.contracts import keys
from services.contracts.job import JobSpec
from tests.integration.api.api_process import ApiProcess
from tests.integration.api.submitting import spec, until
from tests.model_folders import write_model

GRPO = {"advantage_estimator": "grpo"}


def test_a_submitted_job_reaches_the_trainer_with_everything_it_needs(api: ApiProcess, http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", json=spec(name="first"))
    assert answer.status_code == 201
    job = answer.json()["id"]
    assert answer.headers["location"] == f"/v1/jobs/{job}"
    until(http, job, "QUEUED")
    assert job in api.queued_jobs()
    with Redis.from_url(api.redis_url) as client:
        told = JobSpec.model_validate_json(client.get(keys.spec(job)))  # type: ignore[arg-type]
        environment = json.loads(client.get(keys.environment(job)))  # type: ignore[arg-type]
        assert client.get(keys.control(job)) == b"run"
    assert told.name == "first"
    assert environment["vocabulary"] == ["go", "north", "south", "take", "put"]


def test_a_repeated_idempotency_key_gets_the_first_answer_and_another_body_409(http: httpx.Client) -> None:
    headers = {"Idempotency-Key": "abc"}
    first = http.post("/v1/jobs", json=spec(), headers=headers)
    until(http, first.json()["id"], "QUEUED")
    again = http.post("/v1/jobs", json=dict(reversed(spec().items())), headers=headers)
    other = http.post("/v1/jobs", json=spec(name="other"), headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert again.json() == first.json()
    assert other.headers["content-type"] == "application/problem+json"


def test_a_dry_run_answers_with_the_resolved_spec_and_stores_nothing(http: httpx.Client) -> None:
    before = http.get("/v1/jobs").json()["jobs"]
    answer = http.post("/v1/jobs?dry_run=true", json=spec(name="dry"))
    assert answer.status_code == 200
    assert answer.json()["spec"]["algorithm"]["gamma"] == 0.95
    assert JobSpec.model_validate(answer.json()["spec"]) == JobSpec.model_validate(spec(name="dry"))
    assert http.get("/v1/jobs").json()["jobs"] == before


BAD = {
    "unknown key": (spec(modle={}), "modle", "unknown key"),
    "unknown environment": (
        spec(environment={"environment": "nope"}),
        "environment.environment",
        "known: absent, grid",
    ),
    "environment not installed": (
        spec(environment={"environment": "absent"}),
        "environment.environment",
        "needs a pack",
    ),
    "unknown kwarg": (
        spec(environment={"environment_kwargs": {"sise": 3}}),
        "environment.environment_kwargs.sise",
        "known: max_turns, size",
    ),
    "kwarg out of range": (
        spec(environment={"environment_kwargs": {"size": 1}}),
        "environment.environment_kwargs.size",
        "integer from 2",
    ),
    "gigpo without environment": (
        spec(environment={"use_gym_env": False}, algorithm={"advantage_estimator": "gigpo"}),
        "",
        "gigpo needs use_gym_env",
    ),
    "gigpo without anchors": (
        spec(environment={"environment": "noise"}, algorithm={"advantage_estimator": "gigpo"}),
        "algorithm.advantage_estimator",
        "gives anchors",
    ),
    "negative weight": (
        spec(algorithm={"advantage_estimator": "gigpo", "gigpo_step_advantage_weight": -1}),
        "algorithm.gigpo_step_advantage_weight",
        "want a number >= 0, got -1",
    ),
    "missing model": ({"model": {"model": "/no/such/folder"}}, "model.model", "no such folder"),
    "scratch without vocabulary": (spec(environment={"environment": "open"}), "model.scratch", "vocabulary"),
    "unknown split": (spec(environment={"eval_split": "dev"}), "environment.eval_split", "train, test"),
    "no mapping": ([], "", "want a mapping"),
    "more batches than can be counted": (spec(training={"total_batches": 10**30}), "training.total_batches", "1000000"),
    "a lone surrogate": (
        spec(environment={"environment": "noise", "environment_kwargs": {"a": ["x", "\ud800"]}}, algorithm=GRPO),
        "environment.environment_kwargs.a.1",
        "lone surrogates",
    ),
    "a key with a lone surrogate": (
        spec(environment={"environment": "noise", "environment_kwargs": {"\ud800": 1}}, algorithm=GRPO),
        "environment.environment_kwargs",
        "lone surrogates",
    ),
    "a NUL": (spec(environment={"system": "a\0"}), "environment.system", "without NUL"),
    "an integer of many digits": (spec(evaluation={"eval_seed": 10**30}), "evaluation.eval_seed", "31 digits"),
}


@pytest.mark.parametrize("name", BAD)
def test_every_bad_spec_is_422_and_names_its_field(name: str, http: httpx.Client) -> None:
    body, field, words = BAD[name]
    before = http.get("/v1/jobs").json()["jobs"]
    content = json.dumps(body).encode()  # httpx itself refuses NaN
    answer = http.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in problem["errors"]] == [field]
    assert words in problem["errors"][0]["message"]
    assert http.get("/v1/jobs").json()["jobs"] == before


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"{", 422),
        (b"\xff", 400),
        (b'{"\\ud800": 1}', 422),
        (b'{"environment": {"environment_kwargs": {"a": NaN}}}', 422),
    ],
)
def test_a_body_that_is_no_clean_json_is_a_problem(content: bytes, status: int, http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_a_body_that_is_no_json_is_refused_as_what_it_is(http: httpx.Client) -> None:
    json, text = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}
    cut = http.post("/v1/jobs", content=b'{"model": ', headers=json).json()
    assert cut["detail"].startswith("want JSON, got at character 10: ")
    for path in ("/v1/jobs", "/v1/evaluations"):
        other = http.post(path, content=b"{}", headers=text)
        assert other.status_code == 422
        assert other.json()["detail"] == "want JSON, named by Content-Type: application/json, got 'text/plain'"
    assert http.get("/v1/jobs", params={"cursor": "x"}).json()["errors"][0]["field"] == "cursor"


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs?dry_run=true"])
def test_a_model_folder_must_hold_a_whole_model(tmp_path: Path, http: httpx.Client, path: str) -> None:
    def refusal() -> str:
        answer = http.post(path, json={"model": {"model": str(tmp_path)}})
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert error["field"] == "model.model"
        return str(error["message"])

    (tmp_path / "config.json").write_text("{}")
    assert "lacks tokenizer.json, tokenizer_config.json, *.safetensors" in refusal()
    write_model(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0].content }}{{ tomorrow() }}")
    assert refusal() == "the tokenizer's chat template: 'tomorrow' is undefined"
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert refusal() == "model.safetensors: want a safetensors file, got a file of 0 bytes"
    write_model(tmp_path)
    assert http.post("/v1/jobs?dry_run=true", json={"model": {"model": str(tmp_path)}}).status_code == 200


def test_jobs_are_listed_newest_first_by_pages_and_filters(http: httpx.Client) -> None:
    ids = [http.post("/v1/jobs", json=spec(name="paged")).json()["id"] for _ in range(3)]
    first = http.get("/v1/jobs", params={"name": "paged", "limit": 2}).json()
    second = http.get("/v1/jobs", params={"name": "paged", "limit": 2, "cursor": first["next_cursor"]}).json()
    assert [job["id"] for job in first["jobs"] + second["jobs"]] == sorted(ids, reverse=True)
    assert second["next_cursor"] is None
    assert http.get("/v1/jobs", params={"name": "paged", "environment": "noise"}).json()["jobs"] == []
    assert http.get("/v1/jobs", params={"name": "paged", "advantage_estimator": "gigpo"}).json()["jobs"] == []


@pytest.mark.parametrize(
    ("path", "field", "words"),
    [
        ("/v1/jobs?stat=RUNNING", "stat", "unknown parameter, got 'RUNNING'; did you mean state?"),
        ("/v1/jobs/nobody/metrics?zzz=1", "zzz", "unknown parameter, got '1'; known are cursor, format, limit, shape"),
        ("/v1/system?q=1", "q", "unknown parameter, got '1'; none is known here"),
        ("/v1/environments/grid?q=1", "q", "unknown parameter, got '1'; none is known here"),
    ],
)
def test_a_misspelt_parameter_is_refused_instead_of_answered_with_everything(
    path: str, field: str, words: str, http: httpx.Client
) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.json()["errors"]) == (422, [{"field": field, "message": words}])


def test_unknown_jobs_and_paths_are_problems(http: httpx.Client) -> None:
    for path in ("/v1/jobs/none", "/v1/nothing", "/v1/jobs/none/events", "/v1/jobs/none/checkpoints"):
        answer = http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json"), path


@pytest.mark.parametrize(
    "path",
    ["/v1/jobs?name=%00", "/v1/jobs?cursor=%00", "/v1/jobs/%00", "/v1/evaluations?job_id=%00", "/v1/jobs/%00/rollouts"],
)
def test_text_that_a_database_cannot_compare_with_is_422(path: str, http: httpx.Client) -> None:
    answer = http.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_the_catalogue_and_health_answer(http: httpx.Client) -> None:
    listed = {view["info"]["id"]: view["info"] for view in http.get("/v1/environments").json()["items"]}
    assert list(listed) == ["grid", "noise", "open", "absent"]
    told = {name: listed["grid"][name] for name in ("deterministic", "thread_safe", "cost_class")}
    assert told == {"deterministic": True, "thread_safe": True, "cost_class": "light"}
    assert http.get("/v1/environments/noise").json()["info"]["cost_class"] is None
    assert "gamma" in http.get("/v1/algorithms").json()["algorithm"]["properties"]
    health = http.get("/healthz")
    assert (health.status_code, health.json()["checks"]) == (200, {"database": "ok", "redis": "ok", "env": "ok"})
