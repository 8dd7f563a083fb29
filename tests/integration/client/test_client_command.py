"""The `gigpo` command against a real API; the test says what a trainer would."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gigpo.client import ApiRefused, GigpoClient, Unreachable
from gigpo.client.models import Job
from services.kit.process import free_port
from tests.integration.api.api_process import ApiProcess
from tests.integration.client.conftest import Gigpo

SMALL = """
model: {scratch: {}}
environment: {environment: grid}
rollout: {max_completion_length: 6}
training: {total_batches: 3}
"""


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(SMALL)
    return path


def queued(client: GigpoClient, **filters: str) -> Job:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for job in client.jobs(**filters):
            if job.state == "QUEUED":
                return job
        time.sleep(0.05)
    raise AssertionError("no job was queued")


def evaluation(label: str, success: float) -> dict[str, Any]:
    error = (success * (1 - success) / 64) ** 0.5
    return {
        "label": label,
        "version": 0 if label == "before" else 3,
        "episodes": 64,
        "success": success,
        "standard_error": error,
        "return_mean": success,
        "length_mean": 8.0,
        "invalid_share": 0.01,
        "split": "test",
    }


def play_trainer(api: ApiProcess, job: Job, state: str = "SUCCEEDED", error: str | None = None) -> None:
    """Everything that a trainer says and leaves."""
    final = api.data_dir / "jobs" / job.id / "final"
    final.mkdir(parents=True)
    (final / "config.json").write_text('{"model_type": "qwen2"}')
    (final / "model.safetensors").write_bytes(b"w" * 100_000)
    api.say(job.id, "state", state="RUNNING")
    evaluations = [evaluation("before", 0.1), evaluation("after", 0.9)]
    for one in evaluations:
        api.say(job.id, "evaluation", **one)
    for batch in range(3):
        api.say(job.id, "metrics", batch=batch, success=0.1 * batch, entropy=1.0)
    api.say(job.id, "summary", **summary(job, state, evaluations))
    api.say(job.id, "state", state=state, error=error)


def summary(job: Job, state: str, evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "name": job.name,
        "state": state,
        "success_before": 0.1,
        "success_after": 0.9,
        "evaluations": evaluations,
        "env_steps": 100,
        "trained_steps": 100,
        "trained_tokens": 200,
        "sampled_tokens": 200,
        "optimizer_steps": 24,
        "batches": 3,
        "wall_s": 12.5,
        "engine": "vllm",
        "advantage_estimator": job.advantage_estimator,
        "ledger": {"opened": 3, "consumed": 3, "dropped": {}, "live": 0, "retried": 0},
        "mismatch_kl_mean": 0.001,
        "checkpoint": "final",
        "seed": 0,
        "stale_max": 1,
        "phases_s": {"training": 10.0},
        "waits_s": {"inference": 4.5, "environment": 0.5, "trainer": 5.0},
    }


def test_train_follows_a_job_and_leaves_its_results(
    api: ApiProcess, gigpo: Gigpo, tmp_path: Path, job_file: Path
) -> None:
    with GigpoClient(api.url) as client:
        player = threading.Thread(target=lambda: play_trainer(api, queued(client, name="mine")))
        player.start()
        done = gigpo("train", str(job_file), "--name=mine", "--api", api.url, "--advantage_estimator", "rloo")
        player.join()
    assert done.returncode == 0, done.stderr
    for words in ("batch 3/3", "evaluation after: success 0.900", "SUCCEEDED", "after training", "waits_s: inference"):
        assert words in done.stdout, done.stdout
    folder = tmp_path / "runs" / "mine"
    saved = json.loads((folder / "summary.json").read_text())
    assert (saved["success_after"], saved["checkpoint"], saved["advantage_estimator"]) == (0.9, "checkpoint", "rloo")
    assert (folder / "checkpoint" / "model.safetensors").stat().st_size == 100_000
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png" in (folder / "report.html").read_text()


def test_a_failed_job_is_exit_code_1_and_says_why(api: ApiProcess, gigpo: Gigpo, job_file: Path) -> None:
    with GigpoClient(api.url) as client:
        player = threading.Thread(target=lambda: play_trainer(api, queued(client, name="bad"), "FAILED", "out of luck"))
        player.start()
        done = gigpo("train", "--config", str(job_file), "--name", "bad", "--api", api.url, "--json")
        player.join()
    assert done.returncode == 1
    assert "out of luck" in done.stderr
    assert json.loads(done.stdout)["state"] == "FAILED"


def test_a_killed_client_leaves_the_job_and_jobs_finds_it(
    api: ApiProcess, gigpo: Gigpo, variables: dict[str, str], tmp_path: Path, job_file: Path
) -> None:
    command = [sys.executable, "-m", "gigpo.client.main", "train", str(job_file), "--name", "left", "--api", api.url]
    train = subprocess.Popen(command, env=variables, cwd=tmp_path, stdout=subprocess.DEVNULL)
    with GigpoClient(api.url) as client:
        job = queued(client, name="left")
        train.send_signal(signal.SIGKILL)
        train.wait()
        listed = json.loads(gigpo("jobs", "list", "--api", api.url, "--json").stdout)
        assert job.id in [one["id"] for one in listed]
        player = threading.Thread(target=lambda: play_trainer(api, job))
        player.start()
        done = gigpo("jobs", "follow", "left", "--api", api.url)
        player.join()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "left" / "summary.json").exists()


def test_no_follow_answers_at_once_and_jobs_steer(api: ApiProcess, gigpo: Gigpo, job_file: Path) -> None:
    submitted = gigpo("train", str(job_file), "--name", "steered", "--no-follow", "--api", api.url, "--json")
    assert submitted.returncode == 0, submitted.stderr
    job = json.loads(submitted.stdout)["id"]
    assert json.loads(gigpo("jobs", "pause", job, "--api", api.url, "--json").stdout)["wish"] == "pause"
    assert json.loads(gigpo("jobs", "resume", "steered", "--api", api.url, "--json").stdout)["wish"] == "run"
    assert gigpo("jobs", "cancel", job, "--api", api.url).returncode == 0
    with GigpoClient(api.url) as client:
        assert [event.data["state"] for event in client.events(job) if event.kind == "state"][-1] == "CANCELLED"
    assert "CANCELLED" in gigpo("jobs", "show", job, "--api", api.url).stdout
    again = gigpo("jobs", "resume", job, "--api", api.url)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)


def test_a_comparison_runs_every_cell_and_goes_on_with_what_is_missing(
    api: ApiProcess, gigpo: Gigpo, tmp_path: Path, job_file: Path
) -> None:
    arguments = ("compare", str(job_file), "--name", "c", "--estimators", "grpo,gigpo", "--seeds", "0,1")
    names = ["c-grpo-s0", "c-gigpo-s0", "c-grpo-s1", "c-gigpo-s1"]

    def play(states: dict[str, str]) -> None:
        with GigpoClient(api.url) as client:
            for name in states:
                play_trainer(api, queued(client, name=name), states[name])

    first = {name: "SUCCEEDED" for name in names} | {"c-gigpo-s1": "FAILED"}
    player = threading.Thread(target=lambda: play(first))
    player.start()
    broken = gigpo(*arguments, "--api", api.url)
    player.join()
    assert broken.returncode == 1
    assert "gigpo-s1" in broken.stderr

    (tmp_path / "runs" / "c" / "grpo-s0" / "summary.json").unlink()  # its job is done: only fetched again
    player = threading.Thread(target=lambda: play({"c-gigpo-s1": "SUCCEEDED"}))
    player.start()
    done = gigpo(*arguments, "--api", api.url, "--json")
    player.join()
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [(row["estimator"], row["seeds"]) for row in rows] == [("grpo", 2), ("gigpo", 2)]
    assert {path.name for path in (tmp_path / "runs" / "c").glob("comparison.*")} == {
        "comparison.json",
        "comparison.csv",
        "comparison.png",
        "comparison.html",
    }
    with GigpoClient(api.url) as client:
        assert len([job for job in client.jobs() if job.name in names]) == 5


def test_environments_are_listed(api: ApiProcess, gigpo: Gigpo) -> None:
    shown = gigpo("env", "list", "--api", api.url)
    assert shown.returncode == 0
    assert "Fetch and carry." in shown.stdout
    assert "needs a package" in shown.stdout


BAD = {
    "unknown flag": (["--gama", "1"], "gigpo: --gama: unknown flag; did you mean --gamma?"),
    "unknown environment": (["--environment", "nope"], "unknown environment 'nope', known: absent, grid"),
    "gigpo without environment": (
        ["--advantage_estimator", "gigpo", "--use_gym_env", "false"],
        "gigpo needs use_gym_env: true",
    ),
    "negative weight": (
        ["--advantage_estimator=gigpo", "--gigpo_step_advantage_weight=-1"],
        "gigpo_step_advantage_weight: want a number >= 0",
    ),
    "missing model": (["--model", "/no/such/model"], "no such folder: /no/such/model"),
    "unknown kwarg": (["--environment_kwargs", '{"sise": 3}'], "sise: unknown key of environment grid"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(name: str, api: ApiProcess, gigpo: Gigpo, job_file: Path) -> None:
    arguments, words = BAD[name]
    done = gigpo("train", str(job_file), "--api", api.url, *arguments)
    assert done.returncode == 2, done.stdout
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


BAD_FILES = [
    ("model: [", "not valid YAML"),
    ("modle: {}", "modle: unknown key, got {}; did you mean model?; model: want a value, none is given"),
    ("model: {scratch: {}}\ntraining: {seed: 1, seed: 2}", "bad.yaml: line 2: the key 'seed' repeats the one"),
]


@pytest.mark.parametrize(("text", "words"), BAD_FILES)
def test_a_bad_file_is_refused_before_a_stack_is_started(gigpo: Gigpo, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    done = gigpo("train", "bad.yaml")
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("jobs", "list", "--limit", "0"),
            "--limit: want a number >= 1, got '0'; `gigpo jobs",
        ),
        (
            ("compare", "--threshold", "3"),
            "--threshold: want a number <= 1, got '3'; `gigpo compare",
        ),
        (("projects", "create", "p", "--max-jobs", "-3"), "--max-jobs: want a whole number >= 0 or none, got '-3'"),
        (("up", "--json"), "--json: want --detach with it"),
        (("up", "--runs", "file/runs"), "file/runs/.platform: no file can be written there: Not a directory"),
        (("up", "--detach", "--runs", "file/runs"), "Not a directory"),
    ],
)
def test_a_wrong_call_says_what_was_wanted_and_what_came(
    api: ApiProcess,
    gigpo: Gigpo,
    variables: dict[str, str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    (tmp_path / "file").touch()
    variables["GIGPO_API_URL"] = api.url
    done = gigpo(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert words in done.stderr


def test_the_contract_is_json_with_and_without_being_asked(gigpo: Gigpo) -> None:
    assert json.loads(gigpo("openapi", "--json").stdout) == json.loads(gigpo("openapi").stdout)


@pytest.mark.parametrize("command", ["train", "warmstart", "compare"])
def test_results_that_could_not_be_written_are_refused_before_a_stack_is_started(
    gigpo: Gigpo, tmp_path: Path, command: str
) -> None:
    for folder in ("runs/mine", "runs/mine/checkpoint"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "spec.yaml").write_text("precious")
    done = gigpo(command, "--name", "mine")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "runs/mine contains other files than a gigpo " in done.stderr
    assert not (tmp_path / "runs" / ".platform").exists()
    assert (tmp_path / "runs" / "mine" / "spec.yaml").read_text() == "precious"


def test_without_a_stack_the_exit_code_is_3(gigpo: Gigpo) -> None:
    for command in (("jobs", "list"), ("down",), ("env", "list", "--api", f"http://127.0.0.1:{free_port()}")):
        done = gigpo(*command)
        assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr


def test_a_refused_filter_names_what_came(api: ApiProcess, gigpo: Gigpo) -> None:
    done = gigpo("jobs", "list", "--state", "flying", "--api", api.url)
    assert done.returncode == 2
    assert done.stderr.startswith("gigpo: state: want one of PENDING, ")
    assert done.stderr.endswith(", got 'FLYING'\n")


def test_the_client_names_what_the_api_refuses(api: ApiProcess) -> None:
    with GigpoClient(api.url) as client:
        with pytest.raises(ApiRefused) as refused:
            client.submit({**yaml.safe_load(SMALL), "environment": {"environment": "nope"}})
        assert (refused.value.status, refused.value.errors[0][0]) == (422, "environment.environment")
        with pytest.raises(ApiRefused, match="no job"):
            client.find("nobody")
    with GigpoClient(f"http://127.0.0.1:{free_port()}") as nobody, pytest.raises(Unreachable):
        next(nobody.jobs())


def test_help_teaches_every_flag_and_the_exit_codes(gigpo: Gigpo) -> None:
    shown = gigpo("train", "--help").stdout
    for words in ("--gigpo_step_advantage_weight", "--use_gym_env", "Exit codes", "--config"):
        assert words in shown
    assert "warmstart" in gigpo("--help").stdout


SHELLS = {
    "bash": ({"COMP_WORDS": "gigpo {}", "COMP_CWORD": "{}"}, "complete_bash"),
    "zsh": ({"_TYPER_COMPLETE_ARGS": "gigpo {}"}, "complete_zsh"),
    "fish": ({"_TYPER_COMPLETE_ARGS": "gigpo {}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}, "complete_fish"),
}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", ["train", "jobs", "doctor"]),
        ("jobs ca", ["cancel"]),
        ("train --gigpo_st", ["--gigpo_step_advantage_weight"]),
    ],
)
def test_a_shell_is_offered_what_can_follow(
    shell: str, typed: str, offered: list[str], variables: dict[str, str], tmp_path: Path
) -> None:
    asked, instruction = SHELLS[shell]
    words = typed.count(" ") + 1
    given = {name: value.format(words if name == "COMP_CWORD" else typed) for name, value in asked.items()}
    script = Path(sys.executable).with_name("gigpo")
    done = subprocess.run(
        [script],
        env={**variables, **given, "_GIGPO_COMPLETE": instruction},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    for word in offered:
        assert word in done.stdout, (done.stdout, done.stderr)
    if typed:
        assert "doctor" not in done.stdout
