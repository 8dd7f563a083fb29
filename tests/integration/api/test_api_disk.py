"""A disk that is full or read-only: the API refuses with its cause, answers what needs no room, and loses nothing."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.contracts.user_files import files_root
from tests.integration.api.api_process import ApiProcess, running_api
from tests.read_only import read_only

SPEC: dict[str, Any] = {"name": "first", "model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}


@pytest.fixture
def own(redis_url: str, env_address: str, tmp_path: Path) -> Iterator[ApiProcess]:
    """An API with SQLite that nobody else uses."""
    with running_api(tmp_path / "data", redis_url, env_address) as process:
        yield process


@contextmanager
def no_room(api: ApiProcess) -> Iterator[None]:
    """Let no file of the API's grow while the block runs, as on a full disk, but for the words of the error."""
    before = resource.prlimit(api.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(api.process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(api.process.pid, resource.RLIMIT_FSIZE, before)


def refused(answer: httpx.Response) -> str:
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), answer.text
    return str(answer.json()["detail"])


def test_while_the_disk_takes_nothing_a_submission_is_refused_with_the_cause(own: ApiProcess) -> None:
    with httpx.Client(base_url=own.url, timeout=60) as http:
        first = http.post("/v1/jobs", json=SPEC).json()["id"]
        key = {"Idempotency-Key": "k"}
        with no_room(own):
            sentence = refused(http.post("/v1/jobs", json=SPEC | {"name": "second"}, headers=key))
            assert sentence.startswith("the database refuses the request: its disk "), sentence
            assert sentence.endswith("; nothing was stored, try again later")
            assert "its disk" in refused(http.patch(f"/v1/jobs/{first}", json={"tags": ["x"]}))
            assert [job["id"] for job in http.get("/v1/jobs").json()["items"]] == [first]
            assert http.post("/v1/jobs?dry_run=true", json=SPEC).status_code == 200
            assert http.get(f"/jobs/{first}", headers={"Accept": "text/html"}).status_code == 200
        second = http.post("/v1/jobs", json=SPEC | {"name": "second"}, headers=key)
        assert (second.status_code, second.json()["name"]) == (201, "second")
        assert {job["id"] for job in http.get("/v1/jobs").json()["items"]} == {first, second.json()["id"]}


def test_a_users_file_is_not_blamed_for_a_full_disk(own: ApiProcess, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "say a"}\n')
    job = {**SPEC, "environment": {"environment_kwargs": {"data": str(tmp_path / "mine.jsonl")}}}
    with httpx.Client(base_url=own.url, timeout=60) as http, no_room(own):
        sentence = refused(http.post("/v1/jobs", json=job))
    assert sentence == "the disk of the API refuses the request: file too large; nothing was stored, try again later"
    assert [*files_root(own.data_dir).glob("*")] == []


def test_a_read_only_folder_is_told_of_and_ends_nothing(own: ApiProcess, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"prompt": "say a"}\n')
    job = {**SPEC, "environment": {"environment_kwargs": {"data": str(mine)}}}
    with httpx.Client(base_url=own.url, timeout=60) as http:
        first = http.post("/v1/jobs", json=SPEC).json()["id"]
        with read_only(own.data_dir):
            sentence = refused(http.post("/v1/jobs", json=job))
            assert sentence.startswith("the disk of the API refuses the request: read-only file system"), sentence
            assert [one["id"] for one in http.get("/v1/jobs").json()["items"]] == [first]
            assert http.get(f"/v1/jobs/{first}").status_code == 200
        assert http.post("/v1/jobs", json=SPEC | {"name": "second"}).status_code == 201
    assert own.process.poll() is None
