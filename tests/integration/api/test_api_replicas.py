"""Two API processes on one database: one runs the loops, both serve, and the other takes over when the first dies."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from services.api.sql.database import Database
from tests.integration.api.api_process import ApiProcess, running_api
from tests.integration.api.submitting import spec, until


def submitted(api: ApiProcess) -> str:
    return str(httpx.post(f"{api.url}/v1/jobs", json=spec(), timeout=30).raise_for_status().json()["id"])


def test_replicas_share_a_database_and_outlive_each_other(
    redis_url: str, env_address: str, tmp_path: Path, database_url: str
) -> None:
    with (
        running_api(tmp_path, redis_url, env_address, API_DATABASE_URL=database_url) as first,
        running_api(tmp_path, redis_url, env_address, API_DATABASE_URL=database_url) as second,
        httpx.Client(base_url=second.url, timeout=60) as http,
    ):
        jobs = [submitted(api) for api in (first, second) for _ in range(5)]
        for job in jobs:
            until(http, job, "QUEUED")
        assert sorted(second.queued_jobs()) == sorted(jobs), "each was dispatched once"
        job = jobs[0]
        with http.stream("GET", f"/v1/jobs/{job}/events") as following:
            lines = following.iter_lines()
            first.say(job, "state", state="RUNNING")
            first.say(job, "metrics", batch=0)
            assert next(line for line in lines if line == "event: metrics")
            first.process.kill()
            first.process.wait()
            second.say(job, "metrics", batch=1)
            second.say(job, "state", state="SUCCEEDED")
            assert [line for line in lines if line.startswith("event")] == ["event: metrics", "event: state"]
        late = submitted(second)
        until(http, late, "QUEUED")
        deadline = time.monotonic() + 30
        while late not in second.queued_jobs() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert second.queued_jobs().count(late) == 1


def test_a_start_looks_at_the_revision_once(
    redis_url: str, env_address: str, tmp_path: Path, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for looks in (2, 1):  # Alembic says so once more when it upgrades
        with running_api(tmp_path, redis_url, env_address, API_DATABASE_URL=database_url):
            pass
        assert capfd.readouterr().err.count("Context impl") == looks


async def test_a_process_on_a_database_that_is_newer_than_it_does_not_start(
    redis_url: str, env_address: str, tmp_path: Path, database_url: str
) -> None:
    database = Database(database_url)
    await database.migrate()
    async with database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    with (
        pytest.raises(AssertionError, match="ended with 1"),
        running_api(tmp_path, redis_url, env_address, API_DATABASE_URL=database_url),
    ):
        pass
