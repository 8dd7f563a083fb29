"""A job that does not fit the machine its trainer runs on: refused or warned of, at the door."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.contracts.job import ScratchModel
from services.contracts.jobfolder import JobFolder
from services.contracts.states import JobState
from services.trainer.learner.scratch import build_scratch
from tests.integration.api.api_process import running_api
from tests.integration.api.submitting import spec

HUGE = spec(model={"scratch": {"hidden_size": 65536, "num_attention_heads": 512, "num_hidden_layers": 100}})
MANY = spec(rollout={"groups_per_batch": 1_000_000, "max_completion_length": 6})


def test_a_job_that_can_never_fit_is_refused_where_its_trainer_runs_here(
    redis_server: str, env_address: str, tmp_path: Path
) -> None:
    with (
        running_api(tmp_path, redis_server, env_address, API_RUNS_HERE="true") as api,
        httpx.Client(base_url=api.url, timeout=20) as http,
    ):
        for query in ("", "?dry_run=true"):
            refused = http.post(f"/v1/jobs{query}", json=HUGE)
            assert refused.status_code == 422
            first = refused.json()["errors"][0]
            assert (first["field"], first["message"][:17]) == ("model.scratch", "the trainer needs")
            assert " TB of memory or more, this machine has " in first["message"]
        assert http.get("/v1/jobs").json()["jobs"] == []
        warned = [http.post("/v1/jobs?dry_run=true", json=MANY), http.post("/v1/jobs", json=MANY)]
        assert [answer.status_code for answer in warned] == [200, 201]
        for answer in warned:
            assert any("the queue of groups needs about" in warning for warning in answer.json()["warnings"])
        assert http.get(f"/v1/jobs/{warned[1].json()['id']}").json()["warnings"] == []


def test_where_its_trainer_runs_elsewhere_nobody_knows(http: httpx.Client) -> None:
    assert http.post("/v1/jobs?dry_run=true", json=HUGE).status_code == 200


async def test_the_time_is_estimated_by_earlier_jobs(http: httpx.Client, redis_server: str, env_address: str,
                                                     tmp_path: Path) -> None:  # fmt: skip
    with (
        running_api(tmp_path, redis_server, env_address) as api,
        httpx.Client(base_url=api.url, timeout=20) as http,
    ):
        wanted = spec(training={"total_batches": 10}, rollout={"groups_per_batch": 2, "num_generations": 4,
                                                               "max_completion_length": 6})  # fmt: skip
        assert http.post("/v1/jobs?dry_run=true", json=wanted).json()["estimates"]["time_s"] is None
        earlier = http.post("/v1/jobs", json=wanted).json()["id"]
        folder = JobFolder.of(tmp_path, earlier)
        folder.base.mkdir(parents=True)
        build_scratch(ScratchModel(), ["go", "north", "south", "take", "put"], 0, folder.base)
        row = {"env_steps": 40, "episodes": 8, "wait_s": 1.0, "train_s": 0.75, "publish_s": 0.25}
        folder.metrics.write_text(f"{json.dumps(row)}\n" * 3)
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'platform.sqlite'}")
        async with database.write() as session:
            job = await session.get_one(JobRow, earlier)
            job.state, job.summary = JobState.SUCCEEDED.value, {"phases_s": {"evaluation": 5.0, "training": 20.0}}
        await database.close()
        told = http.post("/v1/jobs?dry_run=true", json=wanted).json()["estimates"]
    assert told["time_s"] == 10 * 2.0 + 5.0
    assert told["ranges"]["time_s"]["basis"].startswith("3 batches of 1 earlier job like it here")
