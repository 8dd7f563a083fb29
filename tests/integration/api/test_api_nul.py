"""NUL, which PostgreSQL keeps in no text: in what clients send, and in what trainers tell."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.integration.api.api_process import ApiProcess

SPEC = {"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}


@pytest.mark.parametrize(
    "call",
    [
        "GET /v1/keys/%00",
        "DELETE /v1/keys/%00",
        "GET /v1/projects/%00",
        "GET /v1/jobs/%00",
        "GET /?search=%00",
        "GET /?tag=%00",
        "GET /jobs/new?copy=%00",
        "GET /compare?job=%00",
        "GET /jobs/%00",
        "POST /jobs/%00/cancel",
    ],
)
def test_a_parameter_with_nul_is_the_callers_mistake(http: httpx.Client, call: str) -> None:
    method, _, path = call.partition(" ")
    assert http.request(method, path).status_code == 422


@pytest.mark.parametrize(
    ("path", "fields", "words"),
    [
        ("/jobs/new", {"key": "a\0b", "intent": "submit"}, "key: want text without NUL"),
        ("/jobs/new", {"spec": "name: a\0b"}, "spec: want text without NUL"),
        ("/jobs/new", {"key": "k" * 256, "intent": "submit"}, "key: want at most 255 characters, got 256"),
        ("/jobs/{job}/retry", {"key": "a\0b"}, "key: want text without NUL"),
        ("/jobs/{job}/checkpoints/final/evaluate", {"key": "k" * 256}, "key: want at most 255 characters, got 256"),
    ],
)
def test_a_form_that_cannot_be_stored_is_refused_by_field(
    http: httpx.Client, path: str, fields: dict[str, str], words: str
) -> None:
    job = http.post("/v1/jobs", json=SPEC).raise_for_status().json()["id"]
    answer = http.post(path.format(job=job), data=fields)
    assert (answer.status_code, words in answer.text) == (422, True), answer.text


def test_a_path_with_nul_is_in_the_audit_log(http: httpx.Client) -> None:
    assert http.post("/anything%00").status_code == 404
    assert http.get("/v1/audit").json()["entries"][0]["path"] == "/anything\N{REPLACEMENT CHARACTER}"


def test_what_a_trainer_tells_is_stored_without_nul(api: ApiProcess, http: httpx.Client) -> None:
    job = http.post("/v1/jobs", json=SPEC).raise_for_status().json()["id"]
    api.say(job, "odd\0", **{"na\0me": ["te\0xt"]})
    api.say(job, "phase", phase="war\0m")
    api.say(job, "state", state="FAILED", error="bro\0ken")
    deadline = time.monotonic() + 60
    while (found := http.get(f"/v1/jobs/{job}").json())["state"] != "FAILED" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (found["state"], found["error"]) == ("FAILED", "bro\N{REPLACEMENT CHARACTER}ken")
