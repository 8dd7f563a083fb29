"""`gigpo rollouts`, `checkpoints`, `eval`, `jobs logs, retry, fork` against a real API and what a trainer leaves."""

from __future__ import annotations

import hashlib
import json
import tarfile
import time
import zlib
from array import array
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from gigpo.client import GigpoClient, Job
from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.messages import Episode, ScoredGroup, Step, encode
from tests.integration.api.api_process import ApiProcess
from tests.integration.client.conftest import Gigpo
from tests.job_files import write_job_files, write_policy

pytestmark = pytest.mark.parametrize("api", ["sqlite", "postgresql"], indirect=True, scope="module")

SPEC: dict[str, Any] = {
    "model": {"scratch": {}},
    "environment": {"environment": "grid"},
    "rollout": {"max_completion_length": 6},
    "training": {"total_batches": 3},
}


@pytest.fixture
def left(api: ApiProcess) -> Job:
    """A failed job with checkpoints, a final policy and one archived group."""
    with GigpoClient(api.url) as client:
        job = client.submit({**SPEC, "name": f"left-{time.monotonic_ns()}"})
        folder = api.data_dir / "jobs" / job.id
        write_job_files(folder)
        write_policy(folder / "final", 7)
        Tokenizer(WordLevel({"here": 7, "go": 8}, unk_token="go")).save(str(folder / "base" / "tokenizer.json"))
        digest = hashlib.sha256((folder / "final" / "model.safetensors").read_bytes()).hexdigest()
        (folder / "final" / "hashes.json").write_text(json.dumps({"model.safetensors": digest}))
        archive_group(folder)
        api.say(job.id, "state", state="RUNNING")
        api.say(job.id, "metrics", batch=0, success=0.25)
        api.say(job.id, "warning", message="a tracker is off")
        api.say(job.id, "state", state="FAILED", error="out of luck")
        list(client.events(job.id))
        return client.job(job.id)


def archive_group(folder: Path) -> None:
    """Two episodes that met in their first state; one went right."""

    def step(index: int, action: str, reward: float, valid: bool) -> Step:
        return Step(
            step_index=index, prompt_ids=pack_int32([7]), response_ids=pack_int32([8]), logprobs=pack_float32([-0.5]),
            versions=pack_int32([0]), reward=reward, anchor_key=b"a" * 16, state_key=b"s" * 16, anchor="here",
            action=action, action_valid=valid,
        )  # fmt: skip

    def episode(k: int, steps: list[Step], won: bool) -> Episode:
        return Episode(
            group_id="tabc", episode_id=f"tabc/{k}", k=k, attempt=1, task="put it there", steps=steps, won=won,
            score=float(won), terminated=won, truncated=not won, worker="w",
        )  # fmt: skip

    def column(*values: float) -> bytes:
        return array("d", values).tobytes()

    scores = ScoredGroup(
        group_id="tabc", purpose="train", cursor=0, advantage=column(1.0, 0.5, -0.75), step_return=column(0.95, 1, 0),
        episode_advantage=column(0.5, 0.5, -0.5), step_advantage=column(0.5, 0, -0.25),
        step_group=array("q", [0, 1, 0]).tobytes(), episodes_sha="x",
    )  # fmt: skip
    episodes = [
        episode(0, [step(0, "go north", 0.0, True), step(1, "put it", 1.0, True)], won=True),
        episode(1, [step(0, "fly", 0.0, False)], won=False),
    ]
    payload = [(encode(scores), [encode(one) for one in episodes])]
    (folder / "rollouts").mkdir(exist_ok=True)
    for path in (folder / "rollouts").iterdir():
        path.unlink()
    (folder / "rollouts" / "batch-00000.msgpack.zlib").write_bytes(zlib.compress(msgspec.msgpack.encode(payload)))


def test_logs_are_the_jobs_events_as_lines(api: ApiProcess, gigpo: Gigpo, left: Job) -> None:
    shown = gigpo("jobs", "logs", left.id, "--api", api.url)
    assert shown.returncode == 0, shown.stderr
    lines = [line.split("  ", 1)[1] for line in shown.stdout.splitlines()]
    assert lines[-4:] == [
        "state RUNNING", "batch 1/3  success 0.25", "warning: a tracker is off", "state FAILED: out of luck"
    ]  # fmt: skip
    told = [json.loads(line) for line in gigpo("jobs", "logs", left.id, "--api", api.url, "--json").stdout.splitlines()]
    assert [event["kind"] for event in told[-2:]] == ["warning", "state"]


def test_logs_of_a_running_job_end_where_it_is(api: ApiProcess, gigpo: Gigpo) -> None:
    with GigpoClient(api.url) as client:
        job = client.submit({**SPEC, "name": "goes-on"})
        told = client.events(job.id)
        assert next(told).data["state"] == "QUEUED"
        api.say(job.id, "state", state="RUNNING")
        assert next(told).data["state"] == "RUNNING"
    shown = gigpo("jobs", "logs", "goes-on", "--api", api.url)
    assert (shown.returncode, shown.stdout.splitlines()[-1].split("  ", 1)[1]) == (0, "state RUNNING")


def test_a_rollout_is_shown_step_by_step_with_its_advantages(api: ApiProcess, gigpo: Gigpo, left: Job) -> None:
    listed = gigpo("rollouts", "list", left.id, "--won", "some", "--api", api.url)
    assert listed.stdout.splitlines()[1].split() == ["tabc", "0", "1/2", "0.500", "2", "1", "put", "it", "there"]
    assert json.loads(gigpo("rollouts", "list", left.id, "--won", "all", "--api", api.url, "--json").stdout) == []
    shown = gigpo("rollouts", "show", left.id, "tabc", "--api", api.url).stdout.splitlines()
    assert [line.split() for line in shown if line.strip()[:1] in ("0", "1")] == [
        ["0", "go", "north", "0.00", "0.950", "+0.500", "+0.500", "+1.000", "2"],
        ["1", "put", "it", "1.00", "1.000", "+0.500", "+0.000", "+0.500", "1"],
        ["0", "fly", "(invalid)", "0.00", "0.000", "-0.500", "-0.250", "-0.750", "2"],
    ]
    assert "episode 0: won, score 1.000" in shown
    assert "episode 1: ran out of turns, score 0.000" in shown
    one = gigpo("rollouts", "show", left.id, "tabc", "--episode", "1", "--texts", "--api", api.url).stdout
    assert "episode 0" not in one
    assert "step 0 prompt:\nhere\nstep 0 response:\ngo\n" in one
    none = gigpo("rollouts", "show", left.id, "tabc", "--episode", "9", "--api", api.url)
    assert (none.returncode, none.stderr) == (2, "gigpo: --episode: want one of 0, 1, got 9\n")


def test_checkpoints_are_listed_taken_away_and_deleted(
    api: ApiProcess, gigpo: Gigpo, left: Job, tmp_path: Path
) -> None:
    def run(*arguments: str) -> Any:
        done = gigpo("checkpoints", *arguments, "--api", api.url, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert [one["name"] for one in run("list", left.id)] == ["b000002", "b000004", "final"]
    weights = (api.data_dir / "jobs" / left.id / "final" / "model.safetensors").read_bytes()
    folder = tmp_path / run("download", left.id)["path"]
    assert folder == tmp_path / "runs" / str(left.name) / "final"
    assert (folder / "model.safetensors").read_bytes() == weights
    with tarfile.open(tmp_path / run("export", left.id, "final", "--output", "policy.tar")["path"]) as tar:
        inside = tar.extractfile(f"{left.name}-final/model.safetensors")
        assert inside is not None
        assert inside.read() == weights
    asked = gigpo("checkpoints", "delete", left.id, "b000002", "--api", api.url)
    assert asked.returncode == 1
    assert asked.stderr.endswith("gigpo: aborted, nothing was changed\n")
    run("delete", left.id, "b000002", "--yes")
    assert [one["name"] for one in run("list", left.id)] == ["b000004", "final"]
    gone = gigpo("checkpoints", "download", left.id, "b000002", "--api", api.url)
    assert (gone.returncode, gone.stderr.count("\n")) == (2, 1)
    assert "known: b000004, final" in gone.stderr


def test_no_command_takes_a_file_of_the_users(api: ApiProcess, gigpo: Gigpo, left: Job, tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        done = gigpo(*arguments, "--api", api.url)
        return done.returncode, done.stderr

    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "weights.txt").write_text("precious")
    for command in (("checkpoints", "download"), ("jobs", "follow")):
        for folder, others in ((".", "models, notes.txt"), ("models", "weights.txt")):
            code, said = run(*command, left.id, "--output", folder)
            assert (code, said.count("\n")) == (2, 1)
            assert said.startswith(f"gigpo: {folder} contains other files than a gigpo ")
            assert f": {others}; name another folder, or give --force" in said
    assert run("checkpoints", "export", left.id, "--output", "models") == (
        2, "gigpo: models: want the name of a file, this is a folder\n",
    )  # fmt: skip
    assert run("checkpoints", "export", left.id, "--output", "notes.txt")[0] == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["models", "notes.txt", "weights.txt"]

    assert run("checkpoints", "download", left.id, "--output", "models", "--force") == (0, "")
    assert run("checkpoints", "download", left.id, "--output", "models", "--force") == (0, "")
    assert run("jobs", "follow", left.id, "--output", ".", "--force")[0] == 1  # the job failed
    assert (tmp_path / "checkpoint" / "model.safetensors").read_bytes()
    assert "curves.png" in {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "notes.txt").read_text() == "notes"
    assert (tmp_path / "models" / "weights.txt").read_text() == "precious"


def test_results_are_written_again_and_those_of_another_job_are_not_left(
    api: ApiProcess, gigpo: Gigpo, left: Job, tmp_path: Path
) -> None:
    def follow(job: Job, *more: str) -> str:
        done = gigpo("jobs", "follow", job.id, "--output", "results", *more, "--api", api.url)
        assert done.returncode == 1, done.stderr  # both jobs failed
        return done.stderr

    follow(left)
    follow(left)
    (tmp_path / "results" / "extra.txt").write_text("mine")
    follow(left, "--force")
    with GigpoClient(api.url) as client:
        bare = client.submit({**SPEC, "name": "bare"})
        api.say(bare.id, "state", state="FAILED", error="at once")
        list(client.events(bare.id))
    follow(bare, "--force")
    names = {path.name for path in (tmp_path / "results").iterdir()}
    assert names == {".gigpo.json", "extra.txt", "metrics.jsonl", "spec.yaml", "report.html"}
    assert "bare" in (tmp_path / "results" / "spec.yaml").read_text()


def test_a_file_that_is_not_the_noted_one_is_refused(api: ApiProcess, gigpo: Gigpo, left: Job, tmp_path: Path) -> None:
    (api.data_dir / "jobs" / left.id / "final" / "hashes.json").write_text(json.dumps({"model.safetensors": "0" * 64}))
    done = gigpo("checkpoints", "download", left.id, "--api", api.url)
    assert done.returncode == 1
    assert "model.safetensors: want SHA-256" in done.stderr
    assert not (tmp_path / "runs" / str(left.name)).exists() or not list((tmp_path / "runs" / str(left.name)).iterdir())


def test_a_job_is_retried_forked_and_evaluated_from_the_command(api: ApiProcess, gigpo: Gigpo, left: Job) -> None:
    def run(*arguments: str) -> Any:
        done = gigpo(*arguments, "--api", api.url, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    again = run("jobs", "retry", left.id)
    changes = ("--set", "learning_rate=0.5", "--set", "algorithm.beta=0.125")
    forked = run("jobs", "fork", left.id, "--checkpoint", "b000004", "--name", "forked", *changes)
    assert {again["parent_job"], forked["parent_job"]} == {left.id}
    assert (forked["spec"]["training"]["learning_rate"], forked["spec"]["algorithm"]["beta"]) == (0.5, 0.125)
    made = run("eval", "run", left.id, "--checkpoint", "final", "--episodes", "16", "--seed", "3", "--no-follow")
    assert (made["job_id"], made["checkpoint"], made["eval_episodes"], made["eval_seed"]) == (left.id, "final", 16, 3)
    assert [one["id"] for one in run("eval", "list", "--job", left.id)] == [made["id"]]
    assert run("eval", "show", made["id"])["state"] in {"PENDING", "QUEUED"}
    children = {one["id"] for one in run("jobs", "list", "--parent", left.id, "--since", "1h")}
    assert children == {again["id"], forked["id"], made["id"]}
    assert [one["id"] for one in run("jobs", "list", "--parent", left.id, "--kind", "evaluation")] == [made["id"]]
    refused = gigpo("jobs", "retry", made["id"], "--api", api.url)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_training_starts_from_a_checkpoint_of_another_job(
    api: ApiProcess, gigpo: Gigpo, left: Job, tmp_path: Path
) -> None:
    (tmp_path / "job.yaml").write_text(json.dumps(SPEC))
    model = f"job:{left.id}/final"
    done = gigpo("train", "job.yaml", "--model", model, "--no-follow", "--api", api.url, "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["parent_job"], made["spec"]["model"]["model"]) == (left.id, model)


def test_a_dry_run_estimates_and_stores_nothing(api: ApiProcess, gigpo: Gigpo, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(json.dumps({**SPEC, "name": "dry"}))
    done = gigpo("train", "job.yaml", "--dry-run", "--api", api.url, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["estimates"]["env_steps_per_batch"] == 16 * 8 * 20
    with GigpoClient(api.url) as client:
        assert list(client.jobs(name="dry")) == []
    refused = gigpo("train", "job.yaml", "--dry-run", "--trackers", "mlflow,wandb", "--api", api.url)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "tracking.trackers: mlflow is not installed here; pip install 'gigpo-platform[mlflow]'" in refused.stderr


def test_doctor_and_version_answer_in_words_and_in_json(api: ApiProcess, gigpo: Gigpo) -> None:
    elsewhere = gigpo("doctor", "--api", api.url, "--json")
    findings = {one["name"]: one for one in json.loads(elsewhere.stdout)}
    assert (elsewhere.returncode, findings["api"]["state"]) == (0, "ok"), findings
    assert set(findings) == {"python", "packages", "disk", "api"}
    nobody = gigpo("doctor", "--api", "http://127.0.0.1:9")
    assert nobody.returncode == 1
    assert "-> start one with `gigpo up`" in nobody.stdout
    assert json.loads(gigpo("version", "--json").stdout)["services"] is True
