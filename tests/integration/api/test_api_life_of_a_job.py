"""Events into SQL and out again, commands, and what survives the death of the API."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from services.contracts import keys
from services.kit.process import free_port
from tests.integration.api.api_process import ApiProcess, running_api

SPEC: dict[str, Any] = {"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}


def submitted(http: httpx.Client) -> str:
    return str(http.post("/v1/jobs", json=SPEC).raise_for_status().json()["id"])


def until(http: httpx.Client, job: str, **wanted: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer: dict[str, Any] = http.get(f"/v1/jobs/{job}").raise_for_status().json()
        if all(answer[name] == value for name, value in wanted.items()):
            return answer
        time.sleep(0.05)
    raise AssertionError(f"want {wanted}, got {answer}")


def events(http: httpx.Client, job: str, after: str | None = None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    headers = {"Last-Event-ID": after} if after else {}
    with http.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
        id_ = kind = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                id_ = value
            elif name == "event":
                kind = value
            elif name == "data":
                yield id_, kind, json.loads(value)["data"]


def test_events_move_the_job_and_the_stream_ends_after_the_last_state(api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http)
    until(http, job, state="QUEUED")
    api.say(job, "state", state="RUNNING")
    api.say(job, "phase", phase="training")
    api.say(job, "metrics", batch=1, success=0.5, strange=float("nan"))
    running = until(http, job, state="RUNNING", phase="training", metrics={"batch": 1, "success": 0.5, "strange": None})
    assert running["started_unix_s"] == 1_000.0
    api.say(job, "metrics", batch=2, success=0.75)
    api.say(job, "state", state="SUCCEEDED")
    seen = list(events(http, job))
    assert [kind for _, kind, _ in seen] == ["state", "state", "phase", "metrics", "metrics", "state"]
    assert [data["state"] for _, kind, data in seen if kind == "state"] == ["QUEUED", "RUNNING", "SUCCEEDED"]
    until(http, job, state="SUCCEEDED", phase=None)


def test_a_follower_resumes_after_the_last_event_it_has_seen(api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http)
    until(http, job, state="QUEUED")
    ids = [api.say(job, "metrics", batch=batch) for batch in range(20)]
    api.say(job, "state", state="CANCELLED")
    batches = [data["batch"] for _, kind, data in events(http, job, after=ids[6]) if kind == "metrics"]
    assert batches == list(range(7, 20))


def test_a_last_event_id_that_is_none_is_refused(http: httpx.Client) -> None:
    answer = http.get(f"/v1/jobs/{submitted(http)}/events", headers={"Last-Event-ID": "x"})
    assert answer.status_code == 422


def test_metrics_keep_the_last_word_on_a_batch_and_come_as_csv(api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http)
    for batch, success in ((0, 0.1), (1, 0.2), (1, 0.3)):
        api.say(job, "metrics", batch=batch, success=success)
    until(http, job, metrics={"batch": 1, "success": 0.3})
    rows = http.get(f"/v1/jobs/{job}/metrics").json()["items"]
    assert [(row["batch"], row["success"]) for row in rows] == [(0, 0.1), (1, 0.3)]
    table = http.get(f"/v1/jobs/{job}/metrics", params={"format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert table.text.splitlines()[0] == "batch,at_unix_s,success"


def test_cancelling_a_queued_job_ends_it_at_once_and_twice_is_once(api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http)
    until(http, job, state="QUEUED")
    assert http.post(f"/v1/jobs/{job}:cancel").status_code == 202
    until(http, job, state="CANCELLED")
    with Redis.from_url(api.redis_url) as client:
        assert client.get(keys.control(job)) == b"cancel"
    assert http.post(f"/v1/jobs/{job}:cancel").status_code == 202
    assert http.post(f"/v1/jobs/{job}:resume").status_code == 409


def test_a_paused_job_goes_to_the_queue_again_when_it_is_resumed(api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http)
    until(http, job, state="QUEUED")
    api.say(job, "state", state="RUNNING")
    assert http.post(f"/v1/jobs/{job}:pause").json()["wish"] == "pause"
    api.say(job, "state", state="PAUSED")
    until(http, job, state="PAUSED")
    http.post(f"/v1/jobs/{job}:resume").raise_for_status()
    until(http, job, state="QUEUED", wish="run")
    deadline = time.monotonic() + 60  # the event comes before the message
    while api.queued_jobs().count(job) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert api.queued_jobs().count(job) == 2


def test_a_paused_job_that_is_cancelled_ends_at_once_and_the_trainer_is_told(
    api: ApiProcess, http: httpx.Client
) -> None:
    job = submitted(http)
    until(http, job, state="QUEUED")
    http.post(f"/v1/jobs/{job}:pause").raise_for_status()  # else the reconciler takes the job up again
    api.say(job, "state", state="PAUSED")
    until(http, job, state="PAUSED")
    http.post(f"/v1/jobs/{job}:cancel").raise_for_status()
    until(http, job, state="CANCELLED")
    deadline = time.monotonic() + 60
    while api.queued_jobs().count(job) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert api.queued_jobs().count(job) == 2  # it drops what is live and writes the summary


def test_news_that_come_too_late_change_nothing(api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http)
    for state in ("RUNNING", "FAILED", "RUNNING", "SUCCEEDED"):
        api.say(job, "state", state=state, error="no memory")
    assert until(http, job, state="FAILED")["error"] == "no memory"
    assert http.get(f"/v1/jobs/{job}").json()["state"] == "FAILED"


def test_an_event_that_nobody_can_read_is_a_warning_and_holds_nothing_up(api: ApiProcess, http: httpx.Client) -> None:
    job = submitted(http)
    with Redis.from_url(api.redis_url) as client:
        client.xadd(keys.events_stream(job), {b"p": b"junk"})
    api.say(job, "state", state="CANCELLED")
    kinds = [kind for _, kind, _ in events(http, job)]
    assert "warning" in kinds
    until(http, job, state="CANCELLED")


def test_a_job_accepted_before_a_kill_is_dispatched_after_the_restart(
    redis_server: str, env_address: str, tmp_path: Path, database_url: str
) -> None:
    nobody = f"redis://127.0.0.1:{free_port()}/0"  # the row is written, the trainer can't be told
    with (
        running_api(tmp_path, nobody, env_address, API_DATABASE_URL=database_url) as first,
        httpx.Client(base_url=first.url, timeout=60) as http,
    ):
        answer = http.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "once"})
        assert (answer.status_code, answer.json()["state"]) == (201, "PENDING")
        first.process.kill()
        first.process.wait()
    job = answer.json()["id"]
    with (
        running_api(tmp_path, redis_server, env_address, API_DATABASE_URL=database_url) as second,
        httpx.Client(base_url=second.url, timeout=60) as http,
    ):
        until(http, job, state="QUEUED")
        again = http.post("/v1/jobs", json=SPEC, headers={"Idempotency-Key": "once"})
        assert (again.status_code, again.json()["id"]) == (200, job)
        deadline = time.monotonic() + 60
        while job not in second.queued_jobs() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert second.queued_jobs().count(job) == 1


def test_events_said_while_the_api_was_dead_are_stored_once(
    redis_server: str, env_address: str, tmp_path: Path, database_url: str
) -> None:
    with (
        running_api(tmp_path, redis_server, env_address, API_DATABASE_URL=database_url) as first,
        httpx.Client(base_url=first.url, timeout=60) as http,
    ):
        job = submitted(http)
        until(http, job, state="QUEUED")
        for batch in range(5):
            first.say(job, "metrics", batch=batch)
        first.process.kill()
        first.process.wait()
        for batch in range(5, 10):
            first.say(job, "metrics", batch=batch)
        first.say(job, "state", state="SUCCEEDED")
    with (
        running_api(tmp_path, redis_server, env_address, API_DATABASE_URL=database_url) as second,
        httpx.Client(base_url=second.url, timeout=60) as http,
    ):
        seen = list(events(http, job))
        assert [data["batch"] for _, kind, data in seen if kind == "metrics"] == list(range(10))
        assert len({id_ for id_, _, _ in seen}) == len(seen)


def test_what_a_killed_process_left_half_made_is_swept(redis_server: str, env_address: str, tmp_path: Path) -> None:
    old, young, job = (tmp_path / "jobs" / name for name in (".j0123.abcd", ".j4567.efgh", "j0123"))
    for folder in (old, young, job):
        (folder / "base").mkdir(parents=True)
        (folder / "base" / "model.safetensors").write_bytes(b"x")
    for folder in (old, job):
        os.utime(folder, (time.time() - 2 * 86_400,) * 2)
    with running_api(tmp_path, redis_server, env_address):
        deadline = time.monotonic() + 60
        while old.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {young.name, job.name}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
def test_a_bind_beyond_this_machine_without_a_key_is_refused(host: str, env_address: str, tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match="ended with 2"),
        running_api(tmp_path, "redis://x", env_address, API_HOST=host),
    ):
        pass


def test_the_api_drains_while_somebody_follows(redis_server: str, env_address: str, tmp_path: Path) -> None:
    with running_api(tmp_path, redis_server, env_address) as api, httpx.Client(base_url=api.url, timeout=60) as http:
        follower = events(http, submitted(http))
        assert next(follower)[1] == "state"
        api.process.terminate()
        assert list(follower) == []
        assert api.process.wait(40) == 0


def test_health_names_what_is_missing(redis_server: str, tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with running_api(
        tmp_path, redis_server, nobody, API_EXPECTED_SERVICES='["trainer"]', API_ENV_TIMEOUT_S="0.5"
    ) as api:
        health = httpx.get(f"{api.url}/healthz", timeout=20)
        assert health.status_code == 503
        assert health.json()["checks"]["trainer"] == "no live instance of trainer"
        assert "does not answer" in health.json()["checks"]["env"]
        submission = httpx.post(f"{api.url}/v1/jobs", json=SPEC, timeout=20)
        assert (submission.status_code, submission.headers["retry-after"]) == (503, "2")
