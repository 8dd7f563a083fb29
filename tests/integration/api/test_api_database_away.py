"""A PostgreSQL that is gone while the API runs: every call is refused with its cause, and nothing ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx

from tests.integration.api.api_process import running_api
from tests.postgres import postgres_server


def test_a_database_that_is_gone_is_told_of_and_ends_nothing(redis_url: str, env_address: str, tmp_path: Path) -> None:
    with (
        postgres_server() as server,
        running_api(tmp_path / "data", redis_url, env_address, API_DATABASE_URL=server.new_database()) as api,
        httpx.Client(base_url=api.url, timeout=60) as http,
    ):
        assert http.get("/v1/jobs").status_code == 200
        os.kill(int((server.folder / "data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        for _ in range(3):  # connections that broke, then none that can be made
            for answer in (http.get("/v1/jobs"), http.get("/v1/jobs/j1"), http.post("/v1/jobs", json={"model": "m"})):
                assert (answer.status_code, answer.headers.get("retry-after")) in ((503, "5"), (422, None)), answer.text
        assert http.get("/v1/jobs").json()["detail"].startswith("the database refuses the request: it does not answer")
        assert api.process.poll() is None
