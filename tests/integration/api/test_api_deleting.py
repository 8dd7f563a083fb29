"""Deleting a job over REST: what goes, what stays, and when it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest
from redis import Redis

from services.contracts import keys
from services.kit.kombu_layout import UNACKED
from tests.integration.api.api_process import ApiProcess
from tests.integration.api.job_leftovers import leave_results
from tests.integration.api.submitting import spec, until
from tests.job_files import files_below

Ended = Callable[[], str]


@pytest.fixture
def ended(api: ApiProcess, http: httpx.Client) -> Ended:
    """Submits a job that fails and leaves results."""

    def end() -> str:
        job = str(http.post("/v1/jobs", json=spec()).raise_for_status().json()["id"])
        until(http, job, "QUEUED")
        leave_results(api.data_dir, job)
        api.say(job, "metrics", batch=0, success=0.5)
        api.say(job, "state", state="FAILED", error="out of memory")
        until(http, job, "FAILED")
        return job

    return end


def folder_of(api: ApiProcess, job: str) -> Path:
    return api.data_dir / "jobs" / job


def named_in_redis(api: ApiProcess, job: str) -> set[str]:
    with Redis.from_url(api.redis_url) as redis:
        found: list[bytes] = list(redis.scan_iter(f"{{{job}}}:*"))
    return {name.decode() for name in found}


def test_a_deleted_job_is_gone_from_rows_redis_and_storage(api: ApiProcess, http: httpx.Client, ended: Ended) -> None:
    job, other = ended(), ended()
    told = http.get(f"/v1/jobs/{job}/remains").raise_for_status().json()
    assert told == {
        "job_id": job,
        "events": 3,
        "folder": f"jobs/{job}",
        "files": ["base", "checkpoints", "final", "rollouts", "summary.json"],
        "size_bytes": sum(path.stat().st_size for path in folder_of(api, job).rglob("*") if path.is_file()),
        "kept": [],
    }
    before = files_below(folder_of(api, other))
    answer = http.delete(f"/v1/jobs/{job}")
    assert (answer.status_code, answer.json()) == (200, told)
    for path in ("", "/events", "/checkpoints", "/remains"):
        assert http.get(f"/v1/jobs/{job}{path}").status_code == 404
    assert http.delete(f"/v1/jobs/{job}").status_code == 404
    assert job not in {one["id"] for one in http.get("/v1/jobs", params={"limit": 200}).json()["jobs"]}
    assert [path.name for path in (api.data_dir / "jobs").iterdir() if job in path.name] == []
    assert named_in_redis(api, job) == {keys.deleted(job)}
    assert (files_below(folder_of(api, other)), http.get(f"/v1/jobs/{other}").status_code) == (before, 200)


def test_what_others_put_into_a_jobs_folder_stays(api: ApiProcess, http: httpx.Client, ended: Ended, tmp_path) -> None:
    job, elsewhere = ended(), tmp_path / "elsewhere"
    folder = folder_of(api, job)
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("results of a year")
    (folder / "paper").mkdir()
    (folder / "paper" / "draft.tex").write_text("precious")
    (folder / "tensorboard").symlink_to(elsewhere)
    answer = http.delete(f"/v1/jobs/{job}").raise_for_status().json()
    assert answer["kept"] == ["paper"]
    assert files_below(folder) == {"paper/draft.tex"}
    assert files_below(elsewhere) == {"precious"}


def test_what_was_made_from_a_job_outlives_it(api: ApiProcess, http: httpx.Client, ended: Ended) -> None:
    job = ended()
    retry = http.post(f"/v1/jobs/{job}:retry").raise_for_status().json()["id"]
    before = files_below(folder_of(api, retry))
    http.delete(f"/v1/jobs/{job}").raise_for_status()
    assert http.get(f"/v1/jobs/{retry}").json()["parent_job"] == job
    assert files_below(folder_of(api, retry)) == before != set()
    assert all((folder_of(api, retry) / name).stat().st_size for name in before if name.endswith("safetensors"))


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "PAUSED"])
def test_a_job_that_has_not_ended_is_not_deleted(api: ApiProcess, http: httpx.Client, state: str) -> None:
    job = http.post("/v1/jobs", json=spec()).raise_for_status().json()["id"]
    until(http, job, "QUEUED")
    if state != "QUEUED":
        api.say(job, "state", state="RUNNING")
        if state == "PAUSED":  # one that nobody asked for is taken back at once
            http.post(f"/v1/jobs/{job}:pause").raise_for_status()
        api.say(job, "state", state=state)
        until(http, job, state)
    answer = http.delete(f"/v1/jobs/{job}")
    sentence = f"cannot delete job {job}: want a job that has ended, got state {state}"
    assert (answer.status_code, answer.json()["detail"]) == (409, sentence)
    assert http.get(f"/v1/jobs/{job}").json()["state"] == state
    assert keys.deleted(job) not in named_in_redis(api, job)


def test_a_job_that_a_trainer_still_holds_is_not_deleted(api: ApiProcess, http: httpx.Client, ended: Ended) -> None:
    job = ended()
    with Redis.from_url(api.redis_url) as redis:
        queues = [name for name in redis.keys("trainer*") if redis.type(name) == b"list"]
        waiting = next(one for name in queues for one in redis.lrange(name, 0, -1))
        message = msgspec.json.decode(waiting)
        held = {**message, "body": _body_of(job)}
        redis.hset(UNACKED, "tag", msgspec.json.encode([held, "", "trainer"]))
        try:
            answer = http.delete(f"/v1/jobs/{job}")
        finally:
            redis.hdel(UNACKED, "tag")
    assert (answer.status_code, "a trainer is still ending it" in answer.json()["detail"]) == (409, True)
    assert files_below(folder_of(api, job)) != set()
    assert keys.deleted(job) not in named_in_redis(api, job)
    http.delete(f"/v1/jobs/{job}").raise_for_status()


def _body_of(job: str) -> str:
    import base64

    return base64.b64encode(msgspec.json.encode([[job], {}, {}])).decode()


def test_a_key_that_made_a_deleted_job_makes_another(http: httpx.Client, api: ApiProcess) -> None:
    key = {"Idempotency-Key": "deleted-and-submitted-again"}
    job = http.post("/v1/jobs", json=spec(), headers=key).raise_for_status().json()["id"]
    until(http, job, "QUEUED")
    http.post(f"/v1/jobs/{job}:cancel").raise_for_status()
    until(http, job, "CANCELLED")
    http.delete(f"/v1/jobs/{job}").raise_for_status()
    again = http.post("/v1/jobs", json=spec(), headers=key)
    assert (again.status_code, again.json()["id"] != job) == (201, True)
