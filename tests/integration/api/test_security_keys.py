"""Keys, projects, quotas, limits and the audit log on a real process."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.api_process import running_api
from tests.integration.api.keyed_api import ADMIN_KEY, SPEC, KeyedApi, keyed_api
from tests.integration.api.submitting import until
from tests.monitoring import samples


def status(keyed: KeyedApi, key: str | None, method: str, path: str, **more: Any) -> int:
    with keyed.client(key) as client:
        return client.request(method, path, **more).status_code


def test_a_key_is_shown_once_and_is_hashed_at_rest(
    keyed: KeyedApi, shared_database_url: str, request: pytest.FixtureRequest
) -> None:
    made = keyed.new_key("read")
    secret = made["key"].rpartition("_")[2]
    assert made["key"].startswith(made["prefix"])
    shown = [keyed.admin.get("/v1/keys").json()["items"], keyed.admin.get(f"/v1/keys/{made['id']}").json()]
    assert secret not in str(shown)
    if shared_database_url:
        stored = request.getfixturevalue("postgres").dump(shared_database_url)
    else:
        stored = b"".join(path.read_bytes() for path in keyed.api.data_dir.glob("platform.sqlite*"))
    assert secret.encode() not in stored
    assert b"$argon2id$" in stored


def test_scopes_open_what_they_name_and_nothing_else(keyed: KeyedApi) -> None:
    reader, submitter, admin = (keyed.new_key(scope)["key"] for scope in ("read", "submit", "admin"))
    assert [status(keyed, key, "GET", "/v1/jobs") for key in (reader, submitter, admin)] == [200, 403, 200]
    assert [status(keyed, key, "POST", "/v1/jobs", json=SPEC) for key in (reader, submitter, admin)] == [403, 201, 201]
    assert [status(keyed, key, "GET", "/v1/keys") for key in (reader, submitter, admin)] == [403, 403, 200]
    assert [status(keyed, key, "GET", "/v1/whoami") for key in (reader, submitter, admin)] == [200] * 3


def test_a_job_and_its_series_name_the_key_that_submitted_it_and_never_its_secret(keyed: KeyedApi) -> None:
    made = keyed.new_key("read", "submit", project="alpha")
    with keyed.client(made["key"]) as client:
        job = client.post("/v1/jobs", json={**SPEC, "name": "named"}).raise_for_status().json()
        assert (job["submitted_by"], job["key_id"]) == ("alpha-read-submit", made["id"])
        keyed.api.say(job["id"], "state", state="RUNNING")
        until(client, job["id"], "RUNNING")
    labels, deadline = (job["id"], made["id"], "named", "alpha", "RUNNING"), time.monotonic() + 120
    while labels not in samples(text := httpx.get(f"{keyed.api.metrics}/metrics", timeout=30).text, "gigpo_job_info"):
        assert time.monotonic() < deadline, "the job was not exported for 120 s"
        time.sleep(0.2)
    assert made["key"].rpartition("_")[2] not in text


def test_authentication_comes_before_anything_else_is_looked_at(keyed: KeyedApi) -> None:
    with keyed.client(None) as client:
        assert client.get("/healthz").json() == {"status": "ok", "checks": {}}
    assert keyed.admin.get("/healthz").json()["checks"] == {"database": "ok", "redis": "ok", "env": "ok"}
    for path in ("/v1/jobs", "/v1/jobs/none", "/v1/nothing", "/openapi.json", "/v1/keys"):
        assert status(keyed, None, "GET", path) == 401
    assert status(keyed, None, "POST", "/v1/jobs", content=b"{") == 401
    assert status(keyed, ADMIN_KEY + "x", "GET", "/v1/jobs") == 401
    assert status(keyed, "gigpo_0123456789ab_" + "0" * 48, "GET", "/v1/jobs") == 401
    with keyed.client(None) as client:
        refused = client.get("/v1/jobs", headers={"Authorization": "Basic eDp5"})
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.headers["content-type"] == "application/problem+json"


def test_a_revoked_key_is_refused_at_once_and_an_expired_one_after_its_time(keyed: KeyedApi) -> None:
    made = keyed.new_key("read")
    assert status(keyed, made["key"], "GET", "/v1/jobs") == 200
    for _ in range(2):
        assert keyed.admin.delete(f"/v1/keys/{made['id']}").status_code == 204
        assert status(keyed, made["key"], "GET", "/v1/jobs") == 401
    assert keyed.admin.get(f"/v1/keys/{made['id']}").json()["revoked_unix_s"] is not None
    brief = keyed.new_key("read", expires_unix_s=time.time() + 2)
    deadline = time.monotonic() + 30
    while status(keyed, brief["key"], "GET", "/v1/jobs") != 401 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status(keyed, brief["key"], "GET", "/v1/jobs") == 401
    past = keyed.admin.post("/v1/keys", json={"name": "x", "scopes": ["read"], "expires_unix_s": 1})
    assert (past.status_code, past.json()["errors"][0]["field"]) == (422, "expires_unix_s")
    assert keyed.admin.delete("/v1/keys/none").status_code == 404


@pytest.mark.parametrize("shown", ["key", "session"])
@pytest.mark.parametrize(
    ("path", "news"),
    [
        ("/v1/jobs/{job}/events", '"batch":1'),
        ("/v1/jobs/{job}/metrics", '"batch":1'),
        ("/jobs/{job}/live", "event: end"),
        ("/live", "event: row"),
    ],
)
def test_a_stream_ends_with_its_key_and_those_of_others_go_on(
    keyed: KeyedApi, path: str, news: str, shown: str
) -> None:
    made, other = keyed.new_key("read"), keyed.new_key("read")
    job = keyed.admin.post("/v1/jobs", json=SPEC).raise_for_status().json()["id"]
    keyed.api.say(job, "metrics", batch=0)
    accepting, url = {"Accept": "text/event-stream"}, path.format(job=job)
    with keyed.client(made["key"] if shown == "key" else None) as mine, keyed.client(other["key"]) as theirs:
        if shown == "session":
            mine.post("/login", data={"key": made["key"]}, follow_redirects=False)
        with mine.stream("GET", url, headers=accepting) as cut, theirs.stream("GET", url, headers=accepting) as kept:
            lines, others = cut.iter_lines(), kept.iter_lines()
            assert (next(lines), next(others)) != ("", "")
            keyed.admin.delete(f"/v1/keys/{made['id']}").raise_for_status()
            with pytest.raises(httpx.RemoteProtocolError):
                next(line for line in lines if line.startswith(":"))  # the next sign of life, after 15 s
            assert mine.get("/v1/jobs").status_code == 401
            keyed.api.say(job, "metrics", batch=1)
            keyed.api.say(job, "state", state="CANCELLED")
            assert next(line for line in others if news in line)


def test_the_last_use_of_a_key_is_noted(keyed: KeyedApi) -> None:
    made = keyed.new_key("read")
    assert made["last_used_unix_s"] is None
    assert status(keyed, made["key"], "GET", "/v1/jobs") == 200
    assert keyed.admin.get(f"/v1/keys/{made['id']}").json()["last_used_unix_s"] == pytest.approx(time.time(), abs=60)


def test_many_calls_with_a_new_key_at_the_same_time_are_all_answered(keyed: KeyedApi) -> None:
    key = keyed.new_key("read")["key"]
    with keyed.client(key) as client, ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: client.get("/v1/jobs?limit=1").status_code, range(64)))
    assert answers == [200] * 64


def test_who_am_i_names_the_key_its_project_and_its_scopes(keyed: KeyedApi) -> None:
    made = keyed.new_key("submit", "read", project="alpha")
    with keyed.client(made["key"]) as client:
        assert client.get("/v1/whoami").json() == {
            "name": made["name"],
            "key_id": made["id"],
            "project": "alpha",
            "scopes": ["read", "submit"],
            "sees_every_project": False,
        }
    assert keyed.admin.get("/v1/whoami").json()["sees_every_project"] is True


def test_projects_are_made_listed_and_changed(keyed: KeyedApi) -> None:
    made = keyed.admin.post("/v1/projects", json={"id": "gamma", "quotas": {"max_concurrent_jobs": 3}})
    assert (made.status_code, made.headers["location"]) == (201, "/v1/projects/gamma")
    assert keyed.admin.post("/v1/projects", json={"id": "gamma"}).status_code == 409
    assert keyed.admin.post("/v1/projects", json={"id": "Not good"}).status_code == 422
    changed = keyed.admin.patch("/v1/projects/gamma", json={"max_total_steps": 7}).json()
    assert changed["quotas"] == {"max_concurrent_jobs": 3, "max_total_steps": 7, "max_storage_bytes": None}
    assert changed["usage"] == {"concurrent_jobs": 0, "total_steps": 0, "storage_bytes": 0}
    assert keyed.admin.patch("/v1/projects/gamma", json={"max_concurrent_jobs": None}).json()["quotas"] == {
        "max_concurrent_jobs": None,
        "max_total_steps": 7,
        "max_storage_bytes": None,
    }
    assert keyed.admin.patch("/v1/projects/gamma", json={"max_steps": 7}).status_code == 422
    assert keyed.admin.get("/v1/projects/none").status_code == 404
    assert {"alpha", "beta", "default", "gamma"} <= {
        one["id"] for one in keyed.admin.get("/v1/projects").json()["items"]
    }
    assert keyed.admin.post("/v1/keys", json={"name": "x", "scopes": ["read"], "project": "none"}).status_code == 422


@pytest.mark.parametrize(
    ("quotas", "used", "refusal"),
    [
        ({"max_concurrent_jobs": 1}, 1, (429, "max_concurrent_jobs")),
        ({"max_total_steps": 2 * 60 * 16 * 8 * 20 - 1}, 1, (403, "max_total_steps")),
        ({"max_concurrent_jobs": 0}, 0, (403, "max_concurrent_jobs")),
        ({"max_storage_bytes": 0}, 0, (403, "max_storage_bytes")),
    ],
)
def test_a_quota_is_checked_at_submission_and_says_what_is_used_and_asked(
    keyed: KeyedApi, quotas: dict[str, int], used: int, refusal: tuple[int, str]
) -> None:
    project = f"quota-{time.time_ns()}"
    keyed.admin.post("/v1/projects", json={"id": project, "quotas": quotas}).raise_for_status()
    with keyed.client(keyed.new_key("submit", project=project)["key"]) as client:
        for _ in range(used):
            assert client.post("/v1/jobs", json=SPEC).status_code == 201
        answer = client.post("/v1/jobs", json=SPEC)
    problem = answer.json()
    assert (answer.status_code, problem["errors"][0]["field"]) == refusal
    (quota,) = quotas.values()
    assert f"want at most {quota}" in problem["detail"]
    assert "are used" in problem["detail"]
    assert ("retry-after" in answer.headers) == (answer.status_code == 429)
    assert keyed.admin.get(f"/v1/projects/{project}").json()["usage"]["concurrent_jobs"] == used


def test_submissions_at_the_same_time_do_not_pass_a_quota_together(keyed: KeyedApi) -> None:
    keyed.admin.post("/v1/projects", json={"id": "crowd", "quotas": {"max_concurrent_jobs": 5}}).raise_for_status()
    key = keyed.new_key("submit", project="crowd")["key"]
    with keyed.client(key) as client, ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: client.post("/v1/jobs", json=SPEC).status_code, range(24)))
    assert sorted(answers) == [201] * 5 + [429] * 19


def test_a_job_that_ended_gives_back_what_it_did_not_play(keyed: KeyedApi) -> None:
    keyed.admin.post("/v1/projects", json={"id": "frugal"}).raise_for_status()
    with keyed.client(keyed.new_key("submit", "read", project="frugal")["key"]) as client:
        job = client.post("/v1/jobs", json=SPEC).raise_for_status().json()["id"]

        def usage() -> dict[str, int]:
            found: dict[str, int] = keyed.admin.get("/v1/projects/frugal").json()["usage"]
            return found

        assert usage()["total_steps"] == 60 * 16 * 8 * 20
        client.post(f"/v1/jobs/{job}:cancel").raise_for_status()
        deadline = time.monotonic() + 30
        while usage()["concurrent_jobs"] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert usage() == {"concurrent_jobs": 0, "total_steps": 0, "storage_bytes": 0}


def test_every_change_and_every_refused_one_is_in_the_audit_log(keyed: KeyedApi) -> None:
    made = keyed.new_key("submit", project="alpha")
    with keyed.client(made["key"]) as client:
        job = client.post("/v1/jobs", json=SPEC).json()["id"]
        assert client.delete("/v1/keys/x").status_code == 403
    assert status(keyed, None, "POST", f"/v1/jobs/{job}:cancel") == 401
    entries = keyed.admin.get("/v1/audit", params={"limit": 4}).json()["entries"]
    seen = [(one["actor"], one["key_id"], one["method"], one["path"], one["status"]) for one in entries]
    assert seen == [
        ("unknown", None, "POST", f"/v1/jobs/{job}:cancel", 401),
        (made["name"], made["id"], "DELETE", "/v1/keys/x", 403),
        (made["name"], made["id"], "POST", "/v1/jobs", 201),
        ("the key of the settings", None, "POST", "/v1/keys", 201),
    ]
    assert entries[2]["made"] == f"/v1/jobs/{job}"
    assert (entries[2]["project"], entries[2]["address"]) == ("alpha", "127.0.0.1")
    assert made["key"] not in str(entries)


def test_the_audit_log_is_read_by_pages(keyed: KeyedApi) -> None:
    for _ in range(5):
        keyed.new_key("read")
    everything = keyed.admin.get("/v1/audit", params={"limit": 500}).json()["entries"]
    pages, cursor = [], None
    while True:
        params = {"limit": "7", **({"cursor": cursor} if cursor else {})}
        page = keyed.admin.get("/v1/audit", params=params).json()
        pages += page["entries"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert pages == everything


def test_a_key_that_calls_too_often_is_told_when_to_come_back(
    redis_server: str, env_address: str, tmp_path: Path
) -> None:
    with keyed_api(tmp_path, redis_server, env_address, API_RATE_PER_KEY="20/hour") as keyed:
        busy, other = keyed.new_key("read")["key"], keyed.new_key("read")["key"]
        with keyed.client(busy) as client:
            answers = [client.get("/v1/whoami") for _ in range(25)]
        assert [answer.status_code for answer in answers] == [200] * 20 + [429] * 5
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert answers[-1].headers["content-type"] == "application/problem+json"
        assert status(keyed, other, "GET", "/v1/whoami") == 200


def test_wrong_keys_close_an_address_for_a_while(redis_server: str, env_address: str, tmp_path: Path) -> None:
    with keyed_api(tmp_path, redis_server, env_address, API_RATE_WRONG_KEYS="3/hour") as keyed:
        wrong = [status(keyed, f"gigpo_0123456789ab_{'0' * 47}{digit}", "GET", "/v1/jobs") for digit in range(5)]
        assert wrong == [401, 401, 401, 429, 429]
        assert keyed.admin.get("/healthz").status_code == 429


def test_keys_outlive_the_process_and_a_file_can_hold_the_first(
    redis_server: str, env_address: str, tmp_path: Path, database_url: str
) -> None:
    stored = {"API_DATABASE_URL": database_url}
    (tmp_path / "key").write_text("another-first-key-5f1c09a7d2\n")
    with keyed_api(tmp_path / "data", redis_server, env_address, **stored) as keyed:
        key = keyed.new_key("read", "admin")["key"]
    with (
        running_api(tmp_path / "data", redis_server, env_address, API_KEY_FILE=str(tmp_path / "key"), **stored) as api,
        httpx.Client(base_url=api.url, timeout=60) as http,
    ):
        for token, expected in ((key, 200), ("another-first-key-5f1c09a7d2", 200), (ADMIN_KEY, 401)):
            assert http.get("/v1/keys", headers={"Authorization": f"Bearer {token}"}).status_code == expected
    with (
        running_api(tmp_path / "data", redis_server, env_address, API_REQUIRE_KEYS="true", **stored) as api,
        httpx.Client(base_url=api.url, timeout=60) as http,
    ):
        assert http.get("/v1/keys", headers={"Authorization": f"Bearer {key}"}).status_code == 200
        assert http.get("/v1/keys").status_code == 401


def test_wanting_keys_that_nobody_could_make_stops_the_start(
    redis_server: str, env_address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(AssertionError, match="ended with 1"),
        running_api(tmp_path, redis_server, env_address, API_REQUIRE_KEYS="true"),
    ):
        pass
    assert "make one while the installation is open, or set API_KEY" in capfd.readouterr().err
