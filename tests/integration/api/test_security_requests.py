"""Hostile requests: bodies, paths, models and data; and what of all this gets into the logs."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.integration.api.api_process import ApiProcess
from tests.integration.api.keyed_api import ADMIN_KEY, SPEC, KeyedApi, keyed_api
from tests.model_folders import write_model

LIMIT = 4096
PASSWORD = "postgres-keeps-this-to-itself"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name in ("small", "outside"):
        write_model(root / ("open" if name == "small" else ".") / name)
    (root / "open" / "link").symlink_to(root / "outside")
    return root


@pytest.fixture(scope="module")
def keyed(
    redis_server: str,
    env_address: str,
    models: Path,
    tmp_path_factory: pytest.TempPathFactory,
    shared_database_url: str,
) -> Iterator[KeyedApi]:
    settings = {"API_MAX_BODY_BYTES": str(LIMIT), "API_MODEL_ROOTS": f'["{models / "open"}"]'}
    settings["API_DATABASE_URL"] = shared_database_url
    with keyed_api(tmp_path_factory.mktemp("data"), redis_server, env_address, **settings) as keyed:
        yield keyed


def test_a_body_that_is_too_long_is_413_whether_it_says_so_or_not(keyed: KeyedApi) -> None:
    long = b'{"name": "' + b"x" * LIMIT + b'"}'
    json = {"Content-Type": "application/json"}
    assert keyed.admin.post("/v1/jobs", content=long, headers=json).status_code == 413
    chunked = keyed.admin.post("/v1/jobs", content=iter([long[:100], long[100:]]), headers=json)
    assert (chunked.status_code, chunked.headers["content-type"]) == (413, "application/problem+json")
    assert chunked.json()["detail"] == f"want a body of at most {LIMIT} bytes, got more"
    small = keyed.admin.post("/v1/projects", content=iter([b'{"id": ', b'"chunks"}']), headers=json)
    assert small.status_code == 201


def test_an_endless_body_is_not_read_to_its_end(keyed: KeyedApi) -> None:
    address = urlsplit(keyed.api.url)
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(head.encode())
        for _ in range(8):
            connection.sendall(b"400\r\n" + b" " * 0x400 + b"\r\n")
        assert connection.recv(4096).split()[1] == b"413"


def test_a_compressed_body_is_refused_unread(keyed: KeyedApi) -> None:
    bomb = gzip.compress(b" " * 1_000_000)
    assert len(bomb) < LIMIT
    for encoding in ("gzip", "deflate", "br", "gzip, gzip", "x" * 100):
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
        answer = keyed.admin.post("/v1/jobs", content=bomb, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")


def answered(keyed: KeyedApi, path: str, *headers: str) -> bytes:
    """All that a GET by the administrator is answered with, the path as it stands here."""
    address = urlsplit(keyed.api.url)
    lines = [f"GET {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {ADMIN_KEY}", *headers, "", ""]
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode())
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("path", ["/", "/ws", "/v1/jobs", "/v1/jobs/none/events"])
def test_nobody_gets_a_websocket(keyed: KeyedApi, path: str) -> None:
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    handshake = ("Connection: Upgrade, close", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key)
    status = answered(keyed, path, *handshake).split()[1]
    assert status == answered(keyed, path, "Connection: close").split()[1], "it is a GET like any other"
    assert status in {b"200", b"404"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/..%2f..%2fplatform.sqlite",
        "/v1/jobs/%2e%2e/checkpoints",
        "/v1/jobs/{job}/checkpoints/..%2f..%2f..%2f/files/platform.sqlite",
        "/v1/jobs/{job}/checkpoints/final/files/..%2f..%2f..%2f..%2fplatform.sqlite",
        "/v1/jobs/{job}/checkpoints/final/files/%00",
        "/v1/jobs/{job}/rollouts/..%2f..%2fx",
        "/v1/jobs/{job}/checkpoints/../../../../session.secret",
        "/v1/jobs/{job}%00",
        "/../../etc/passwd",
        "/assets/..%2f..%2f..%2fetc/passwd",
    ],
)
def test_no_path_leads_to_a_file_that_is_not_meant(keyed: KeyedApi, path: str) -> None:
    job = keyed.admin.post("/v1/jobs", json=SPEC).raise_for_status().json()["id"]
    answer = answered(keyed, path.replace("{job}", job), "Connection: close")
    assert answer.split()[1] in {b"404", b"422"}, answer[:300]
    assert b"SQLite format" not in answer
    assert b"root:" not in answer


def spec(model: str | None = None, **kwargs: Any) -> dict[str, Any]:
    chosen = {"scratch": {}} if model is None else {"model": model}
    environment = {"environment": "open" if kwargs else "grid", "environment_kwargs": kwargs}
    return {**SPEC, "model": chosen, "environment": environment}


def test_a_model_is_taken_from_the_open_folders_only(keyed: KeyedApi, models: Path) -> None:
    assert keyed.admin.post("/v1/jobs?dry_run=true", json=spec(str(models / "open" / "small"))).status_code == 200
    for model in (
        models / "outside",
        models / "open" / "link",
        f"{models}/open/../outside",
        keyed.api.data_dir,
        "/etc",
        "/proc/self/root/etc",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "//host/share",
        "organisation/model",
        "\0",
        "/" + "x" * 3_000,
    ):
        answer = keyed.admin.post("/v1/jobs?dry_run=true", json=spec(str(model)))
        assert answer.status_code == 422, model
        assert [error["field"] for error in answer.json()["errors"]] == ["model.model"]
        assert "no such folder" not in answer.text  # else it tells what there is


def test_an_environment_is_pointed_at_nothing_outside(keyed: KeyedApi) -> None:
    for value in ("http://10.0.0.1/rows.jsonl", "/etc/passwd", "../../x", "s3://bucket/rows"):
        answer = keyed.admin.post("/v1/jobs?dry_run=true", json=spec(rows=[value]))
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == "environment.environment_kwargs.rows.0"


def test_an_open_installation_takes_any_folder_but_no_address(
    api: ApiProcess, http: httpx.Client, models: Path
) -> None:
    assert http.post("/v1/jobs?dry_run=true", json=spec(str(models / "outside"))).status_code == 200
    for model in ("http://localhost/x", "\0", "/" + "x" * 5_000):
        assert http.post("/v1/jobs?dry_run=true", json=spec(model)).status_code == 422


def test_no_secret_is_in_the_logs_or_in_an_error(
    redis_server: str, env_address: str, tmp_path: Path, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    settings = {"API_LOG_LEVEL": "DEBUG", "API_DATABASE_URL": database_url.replace("gigpo@", f"gigpo:{PASSWORD}@")}
    with keyed_api(tmp_path, redis_server, env_address, **settings) as keyed:
        made = keyed.new_key("read")
        secret = made["key"].rpartition("_")[2]
        wrong = made["key"][:-1] + ("0" if made["key"][-1] != "0" else "1")
        with keyed.client(None) as browser:
            browser.post("/login", data={"key": made["key"]}, follow_redirects=False)
            cookie = browser.cookies["gigpo_session"]
            said += [browser.get(f"/v1/jobs/{made['key']}").headers.get("x", "")]
        for key in (wrong, ADMIN_KEY[:-1], made["key"]):
            with keyed.client(key) as client:
                said += [client.get("/v1/jobs").text, client.post("/v1/keys", json={"name": key}).text]
    logs = capfd.readouterr().err
    assert "database_ready" in logs or "startup complete" in logs
    for hidden in (secret, wrong.rpartition("_")[2], ADMIN_KEY, ADMIN_KEY[:-1], cookie, PASSWORD):
        assert hidden not in logs
    for hidden in (secret, ADMIN_KEY, cookie):
        assert hidden not in "".join(said)
