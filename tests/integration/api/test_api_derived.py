"""Jobs made from other jobs over REST: retry, fork, evaluation; and what becomes of the checkpoints they came from."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic.script import ScriptDirectory

from services.api.sql.database import Database
from services.api.sql.schema import FOLDER
from services.api.sql.tables import JobRow
from tests.integration.api.api_process import ApiProcess
from tests.integration.api.job_leftovers import GROUP, leave_results
from tests.integration.api.submitting import spec, until
from tests.job_files import files_below, safetensors, write_job_files, write_policy

Made = Callable[..., str]


@pytest.fixture
def made(api: ApiProcess, http: httpx.Client) -> Made:
    """Submits a job and brings it to a state, with files of two checkpoints if wanted."""

    def make(state: str = "QUEUED", *, files: bool = True, **sections: Any) -> str:
        job = str(http.post("/v1/jobs", json=spec(**sections)).raise_for_status().json()["id"])
        until(http, job, "QUEUED")
        if files:
            write_job_files(folder(api, job))
        if state != "QUEUED":
            api.say(job, "state", state="RUNNING")
            if state == "PAUSED":  # one that nobody asked for is taken back at once
                http.post(f"/v1/jobs/{job}:pause").raise_for_status()
            if state != "RUNNING":
                api.say(job, "state", state=state)
            until(http, job, state)
        return job

    return make


def folder(api: ApiProcess, job: str) -> Path:
    return api.data_dir / "jobs" / job


def test_a_retry_is_a_new_job_that_holds_all_it_goes_on_with(api: ApiProcess, http: httpx.Client, made: Made) -> None:
    failed = made("FAILED", name="first")
    key = {"Idempotency-Key": uuid.uuid4().hex}
    answer = http.post(f"/v1/jobs/{failed}:retry", headers=key)
    again = http.post(f"/v1/jobs/{failed}:retry", headers=key)
    assert (answer.status_code, again.status_code) == (201, 200)
    job = answer.json()
    assert again.json() == job
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["parent_job"], job["name"], job["kind"]) == (failed, "first", "training")
    assert job["origin"] == {"kind": "retry", "job_id": failed, "checkpoint": "b000004", "version": 4}
    taken = folder(api, job["id"])
    assert files_below(taken) >= {
        "base/model.safetensors", "checkpoints/b000004/trainer/progress.json", "checkpoints/b000002/hashes.json",
        "metrics.jsonl", "evaluations.json", "origin.json", "rollouts/batch-00003.msgpack.zlib",
        "rollouts/eval-during-00002.msgpack.zlib",
    }  # fmt: skip
    assert not (taken / "rollouts" / "batch-00004.msgpack.zlib").exists(), "that batch is trained again"
    assert not (taken / "metrics.jsonl").samefile(folder(api, failed) / "metrics.jsonl"), "the trainer appends to it"
    until(http, job["id"], "QUEUED")
    assert job["id"] in api.queued_jobs()
    assert [one["id"] for one in http.get("/v1/jobs", params={"parent_job": failed}).json()["jobs"]] == [job["id"]]
    assert not list((api.data_dir / "jobs").glob(".*")), "nothing half-made is left"


def test_a_retry_without_a_checkpoint_starts_anew(http: httpx.Client, made: Made) -> None:
    cancelled = made("CANCELLED", files=False)
    job = http.post(f"/v1/jobs/{cancelled}:retry").json()
    assert job["origin"] == {"kind": "retry", "job_id": cancelled, "checkpoint": None, "version": None}


@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "PAUSED", "SUCCEEDED"])
def test_what_has_not_failed_is_not_retried(state: str, http: httpx.Client, made: Made) -> None:
    answer = http.post(f"/v1/jobs/{made(state, files=False)}:retry")
    assert answer.status_code == 409
    assert state in answer.json()["detail"]


def test_a_fork_has_the_checkpoint_as_its_model_and_a_spec_of_its_own(
    api: ApiProcess, http: httpx.Client, made: Made
) -> None:
    source = made("RUNNING", training={"seed": 3, "total_batches": 9})
    overrides = {"training.learning_rate": 0.5, "algorithm": {"beta": 0.25}, "environment.environment_kwargs.size": 4}
    answer = http.post(f"/v1/jobs/{source}:fork", json={"overrides": overrides, "name": "forked"})
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert job["origin"] == {"kind": "fork", "job_id": source, "checkpoint": "b000004", "version": 4}
    wanted = job["spec"]
    assert wanted["model"] == {
        "model": f"job:{source}/b000004", "model_revision": None, "scratch": None, "warmstart": None,
        "torch_dtype": "float32", "tuner_type": "full", "lora_rank": 8, "lora_alpha": 32.0, "lora_dropout": 0.0,
        "target_modules": ["all-linear"],
    }  # fmt: skip
    assert (wanted["training"]["learning_rate"], wanted["training"]["seed"]) == (0.5, 3)
    assert (wanted["algorithm"]["beta"], wanted["name"]) == (0.25, "forked")
    assert wanted["environment"]["environment_kwargs"] == {"size": 4}
    base = folder(api, job["id"]) / "base"
    assert files_below(base) == {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    assert (base / "model.safetensors").read_bytes() == safetensors(4, 8)


@pytest.mark.parametrize(
    ("body", "status", "field", "words"),
    [
        ({"checkpoint": "b000009"}, 404, None, "b000009"),
        ({"checkpoint": "../../x"}, 404, None, "no checkpoint"),
        ({"overrides": {"training.sed": 1}}, 422, "overrides.training.sed", "unknown key"),
        ({"overrides": {"training.seed": -1}}, 422, "overrides.training.seed", "want a number >= 0"),
        ({"overrides": {"model": {"model": "/etc"}}}, 422, "overrides.model.model", "the fork's model"),
        ({"overrides": {"environment.environment": "none"}}, 422, "environment.environment", "known: absent"),
        ({"name": "No Name"}, 422, "name", "small letters"),
        ({"chekpoint": "final"}, 422, "chekpoint", "unknown key"),
    ],
)
def test_a_fork_that_cannot_be_is_refused_and_leaves_nothing(
    body: dict[str, Any], status: int, field: str | None, words: str, api: ApiProcess, http: httpx.Client, made: Made
) -> None:
    source = made("RUNNING")
    before = set((api.data_dir / "jobs").iterdir())
    answer = http.post(f"/v1/jobs/{source}:fork", json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert [error["field"] for error in answer.json()["errors"]] == ([field] if field else [])
    assert set((api.data_dir / "jobs").iterdir()) == before


def test_a_submitted_spec_may_name_a_checkpoint_of_the_project_and_no_path_of_the_installation(
    api: ApiProcess, http: httpx.Client, made: Made
) -> None:
    source = made("RUNNING")
    answer = http.post("/v1/jobs", json={"model": {"model": f"job:{source}/b000002"}})
    assert answer.status_code == 201, answer.text
    assert answer.json()["origin"] == {"kind": "model", "job_id": source, "checkpoint": "b000002", "version": 2}
    write_policy(api.data_dir / "jobs" / f"{source}x" / "final", 1)
    for model, words in {
        f"job:{source}/b000009": "no checkpoint",
        "job:nobody/final": "no job",
        "job:nobody": "want job:",
        str(api.data_dir / "jobs" / f"{source}x" / "final"): "name a job's checkpoint",
        f"{api.data_dir}/../{api.data_dir.name}/jobs/{source}x/final": "name a job's checkpoint",
    }.items():
        refused = http.post("/v1/jobs", json={"model": {"model": model}})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "model.model"), model
        assert words in refused.json()["detail"], model


def test_an_evaluation_is_a_job_on_a_pinned_policy_and_says_its_result(
    api: ApiProcess, http: httpx.Client, made: Made
) -> None:
    source = made("RUNNING", training={"total_batches": 9})
    wanted = {"job_id": source, "version": 5, "eval_episodes": 7, "eval_seed": 8, "split": "train", "name": "measured"}
    key = {"Idempotency-Key": f"evaluate {source}"}
    answer = http.post("/v1/evaluations", json=wanted, headers=key)
    assert answer.status_code == 201, answer.text
    view = answer.json()
    assert (view["job_id"], view["checkpoint"], view["version"]) == (source, "v000005", 5)
    assert (view["eval_episodes"], view["eval_seed"], view["split"], view["result"]) == (7, 8, "train", None)
    job = http.get(f"/v1/jobs/{view['id']}").json()
    assert (job["kind"], job["total_batches"], job["parent_job"]) == ("evaluation", 0, source)
    assert job["spec"]["evaluation"]["eval_baselines"] is False
    base = folder(api, view["id"]) / "base"
    assert (base / "model.safetensors").read_bytes() == safetensors(5, 8), "the weights of that version"
    assert (base / "tokenizer.json").is_file()
    measured = {"label": "before", "version": 0, "episodes": 7, "success": 0.5, "standard_error": 0.1}
    measured |= {"return_mean": 0.5, "length_mean": 3.0, "invalid_share": 0.0, "split": "train"}
    summary = {"state": "SUCCEEDED", "evaluations": [measured, {**measured, "label": "random_actor"}]}
    api.say(view["id"], "summary", **summary)
    api.say(view["id"], "state", state="SUCCEEDED")
    until(http, view["id"], "SUCCEEDED")
    shown = http.get(f"/v1/evaluations/{view['id']}").json()
    assert (shown["result"]["label"], shown["result"]["version"], shown["result"]["success"]) == ("pinned", 5, 0.5)
    assert shown["baselines"].keys() == {"random_actor"}
    again = http.post("/v1/evaluations", json=wanted, headers=key)
    assert (again.status_code, again.json()) == (200, view), "the first answer, not what became of it"
    listed = http.get("/v1/evaluations", params={"job_id": source}).json()
    assert [one["id"] for one in listed["evaluations"]] == [view["id"]]
    assert http.get(f"/v1/evaluations/{source}").status_code == 404
    assert view["id"] in {one["id"] for one in http.get("/v1/jobs?kind=evaluation").json()["jobs"]}


def test_an_evaluation_of_what_is_not_there_is_refused(http: httpx.Client, made: Made) -> None:
    source, empty = made("RUNNING"), made("RUNNING", files=False)
    for body, status, words in (
        ({"job_id": "nobody"}, 404, "no job 'nobody'"),
        ({"job_id": source, "version": 3}, 404, "checkpoints hold versions: 2, 4"),
        ({"job_id": empty}, 404, "has no checkpoint yet"),
        ({"job_id": source, "version": 4, "checkpoint": "b000004"}, 422, "at most one"),
        ({"job_id": source, "split": "dev"}, 422, "environment.eval_split"),
    ):
        answer = http.post("/v1/evaluations", json=body)
        assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text


async def test_a_job_of_an_older_version_can_be_read_though_not_done_again(
    api: ApiProcess, http: httpx.Client, made: Made, shared_database_url: str
) -> None:
    job = made("FAILED", files=False)
    leave_results(api.data_dir, job)
    database = Database(shared_database_url or f"sqlite+aiosqlite:///{api.data_dir / 'platform.sqlite'}")
    async with database.write() as session:
        row = await session.get_one(JobRow, job)
        row.spec = {**row.spec, "algorithm": {"advantage_estimator": "old", "key_of_old": 3}}
    await database.close()
    for path in ("", "/metrics", "/evaluations", "/rollouts", f"/rollouts/{GROUP}", "/anchors", "/checkpoints"):
        assert http.get(f"/v1/jobs/{job}{path}").status_code == 200, path
    assert http.get(f"/v1/jobs/{job}").json()["spec"]["algorithm"]["key_of_old"] == 3
    assert job in [one["id"] for one in http.get("/v1/jobs").json()["jobs"]]
    for page in ("", "/rollouts", f"/rollouts/{GROUP}", f"/anchors/{GROUP}", "/results", "/spec"):
        assert http.get(f"/jobs/{job}{page}").status_code == 200, page
    assert "key_of_old" in http.get("/jobs/new", params={"copy": job}).text
    for answer in (
        http.post(f"/v1/jobs/{job}:retry"),
        http.post(f"/v1/jobs/{job}:fork", json={}),
        http.post("/v1/evaluations", json={"job_id": job}),
        http.get("/jobs/new", params={"copy": job, "checkpoint": "b000001"}),
    ):
        assert (answer.status_code, "key_of_old" in answer.text) == (409, True), answer.text


def test_a_checkpoint_is_exported_as_a_tar_of_its_folder(http: httpx.Client, made: Made) -> None:
    job = made("RUNNING", name="named")
    answer = http.get(f"/v1/jobs/{job}/checkpoints/b000004/export")
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert 'filename="named-b000004.tar"' in answer.headers["content-disposition"]
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    assert contents.keys() == {
        f"named-b000004/{name}" for name in ("config.json", "tokenizer.json", "tokenizer_config.json",
                                             "model.safetensors")
    }  # fmt: skip
    assert contents["named-b000004/model.safetensors"] == safetensors(4, 8)
    assert http.get(f"/v1/jobs/{job}/checkpoints/nope/export").status_code == 404


def test_a_checkpoint_that_is_needed_is_not_deleted(api: ApiProcess, http: httpx.Client, made: Made) -> None:
    job = made("RUNNING")
    url = f"/v1/jobs/{job}/checkpoints"
    refused = http.delete(f"{url}/b000004")
    assert (refused.status_code, "would restart from it" in refused.json()["detail"]) == (409, True)
    assert http.delete(f"{url}/b000002").status_code == 204
    assert http.delete(f"{url}/b000002").status_code == 404
    assert [one["name"] for one in http.get(url).json()["items"]] == ["b000004"]
    fork = http.post(f"/v1/jobs/{job}:fork", json={}).json()["id"]
    api.say(job, "state", state="FAILED")
    until(http, job, "FAILED")
    assert http.delete(f"{url}/b000004").status_code == 204
    assert http.get(url).json()["items"] == []
    assert (folder(api, fork) / "base" / "model.safetensors").read_bytes() == safetensors(4, 8), "the fork has its own"


def test_metrics_are_followed_as_events_when_that_is_accepted(api: ApiProcess, http: httpx.Client, made: Made) -> None:
    job = made("RUNNING", files=False)
    api.say(job, "phase", phase="training")
    for batch in range(3):
        api.say(job, "metrics", batch=batch)
    api.say(job, "state", state="SUCCEEDED")
    answer = http.get(f"/v1/jobs/{job}/metrics", headers={"Accept": "text/event-stream"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.split("\n")
    assert [line for line in lines if line.startswith("event")] == ["event: metrics"] * 3
    second = next(line[4:] for line in lines[3:] if line.startswith("id: "))
    rest = http.get(f"/v1/jobs/{job}/metrics", headers={"Accept": "text/event-stream", "Last-Event-ID": second})
    assert [line for line in rest.text.split("\n") if line.startswith("data")] == [
        line for line in lines if line.startswith("data")
    ][2:]


def test_the_system_counts_jobs_queues_and_services(api: ApiProcess, http: httpx.Client, made: Made) -> None:
    running = made("RUNNING", files=False)
    view = http.get("/v1/system").json()
    assert view["health"]["status"] == "ok"
    assert view["jobs"]["RUNNING"] >= 1
    assert view["ledger"]["balanced"] is True
    assert view["queues"][0]["waiting"] == len(api.queued_jobs())
    assert {queue["name"] for queue in view["queues"] if queue["job_id"] == running} == {"groups", "episodes", "scored"}
    assert view["database_revision"] == ScriptDirectory(str(FOLDER)).get_current_head()
