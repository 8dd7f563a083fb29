"""`gigpo train`, `warmstart`, `compare` and `jobs follow`: what is submitted, watched, written, and how it ends."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gigpo.client import GigpoClient
from gigpo.client.commands import training
from gigpo.client.commands.comparing import _estimators, _seeds
from gigpo.client.document import checked, default_document
from gigpo.client.errors import BadInput
from gigpo.client.follow import FIGURES
from tests.unit.client.both_clients import problem
from tests.unit.client.fake_api import FakeApi, Gigpo, command_line, evaluation, job, summary

SPEC: dict[str, Any] = {
    "model": {"scratch": {}},
    "environment": {"environment": "grid"},
    "rollout": {"max_completion_length": 6},
    "training": {"seed": 5},
}


@pytest.fixture(autouse=True)
def job_file(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(SPEC))


def finishes(api: FakeApi, job_id: str = "j1", *, state: str = "SUCCEEDED", **fields: Any) -> dict[str, Any]:
    """A job that ends as soon as it is followed, and what it leaves; returns it as it is submitted."""
    begun = job(id=job_id, **fields)
    ended = {**begun, "state": state, "spec": SPEC}
    path, weights = f"/v1/jobs/{job_id}", b"weights"
    files = [{"name": "model.safetensors", "size_bytes": 7, "sha256": hashlib.sha256(weights).hexdigest()}]
    api.answers |= {
        "POST /v1/jobs": begun,
        f"GET {path}": ended,
        f"GET {path}/metrics": [{"batch": 0, "success": 0.25}, {"batch": 1, "success": 0.5}],
        f"GET {path}/evaluations": [evaluation("before", 0.1)],
        f"GET {path}/summary": summary(state=state),
        f"GET {path}/checkpoints": [{"name": "final", "final": True, "created_unix_s": 1.0, "files": files}],
        f"GET {path}/checkpoints/final/files/model.safetensors": httpx.Response(200, content=weights),
    }
    api.says(
        job_id,
        ("state", {"state": "RUNNING"}),
        ("state", {"state": "RUNNING"}),
        ("metrics", {"batch": 1, "success": 0.5, "return_mean": 0.25, "episode_advantage_share": 0.625}),
        ("state", {"state": state}),
    )
    return begun


def submitted(api: FakeApi) -> Any:
    """The spec of the one job that was submitted."""
    (sent,) = [request for request in api.requests if request.method == "POST"]
    return json.loads(sent.content)


def test_a_job_is_submitted_watched_and_its_results_written(fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path) -> None:
    finishes(fake_api, name="demo")
    done = gigpo("train", "job.yaml", "--name", "demo", "--advantage_estimator", "rloo")
    assert done.code == 0, done.err
    sent = submitted(fake_api)
    assert (sent["name"], sent["training"], sent["algorithm"]) == ("demo", {"seed": 5}, {"advantage_estimator": "rloo"})
    lines = done.out.splitlines()
    assert lines[:4] == [
        "job j1 at http://api",
        "state RUNNING",
        "batch 2/3  success 0.50  return 0.25  A^E 62%",
        "state SUCCEEDED",
    ]
    assert lines[-1] == "results: runs/demo"
    assert ["after", "training", "64", "0.900", "±", "0.037", "0.900", "8.0", "1.0%", "–"] in done.rows
    folder = tmp_path / "runs" / "demo"
    assert json.loads((folder / "summary.json").read_text()) == {**summary(), "checkpoint": "checkpoint"}
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == fake_api.answers["GET /v1/jobs/j1/metrics"]
    assert yaml.safe_load((folder / "spec.yaml").read_text()) == SPEC
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "checkpoint" / "model.safetensors").read_bytes() == b"weights"
    assert "0.900 ± 0.037" in (folder / "report.html").read_text()


def test_json_is_the_summary_or_else_the_job(fake_api: FakeApi, gigpo: Gigpo) -> None:
    finishes(fake_api)
    done = gigpo("train", "job.yaml", "--json")
    assert done.document == {**summary(), "checkpoint": "checkpoint"}
    assert "results: runs/j1" in done.err.splitlines()
    del fake_api.answers["GET /v1/jobs/j1/summary"]
    without = gigpo("jobs", "follow", "j1", "--json").document
    assert (without["id"], without["state"], "spec" in without) == ("j1", "SUCCEEDED", False)


def test_a_job_that_failed_ends_the_command_with_1(fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path) -> None:
    finishes(fake_api, state="FAILED", error="no [b] memory")
    failed = gigpo("train", "--config", "job.yaml")
    assert (failed.code, "the job failed: no [b] memory" in failed.out.splitlines()) == (1, True)
    finishes(fake_api, state="CANCELLED")
    assert "the job cancelled: as you wished" in gigpo("jobs", "follow", "j1").out.splitlines()
    fake_api.answers["GET /v1/jobs/j1/checkpoints"] = []
    assert gigpo("jobs", "follow", "j1").code == 1
    assert not (tmp_path / "runs" / "j1" / "checkpoint").exists()  # that of the earlier job is not taken for this one's
    assert json.loads((tmp_path / "runs" / "j1" / "summary.json").read_text())["checkpoint"] is None


def test_a_stack_of_this_machine_that_goes_on_is_told(
    fake_api: FakeApi, gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_api.answers["POST /v1/jobs"] = job()

    @contextmanager
    def on_this_machine(*_: object) -> Iterator[GigpoClient]:
        with GigpoClient("http://api", transport=httpx.MockTransport(fake_api)) as client:
            yield client

    monkeypatch.delenv("GIGPO_API_URL")
    monkeypatch.setattr(training, "platform_for", on_this_machine)
    said = gigpo("train", "--no-follow").out
    assert "`gigpo jobs follow j1` watches it" in said
    assert "`gigpo down` stops the stack" in said


def test_without_following_the_job_is_all_there_is(fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path) -> None:
    finishes(fake_api)
    done = gigpo("train", "job.yaml", "--no-follow")
    assert (done.code, done.out) == (0, "job j1 at http://api\n")
    assert gigpo("train", "job.yaml", "--no-follow", "--json").document["id"] == "j1"
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_leaves_the_job_and_says_how_to_watch_it(
    fake_api: FakeApi, gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    finishes(fake_api)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gigpo.client.commands.training.follow", interrupted)
    done = gigpo("train", "job.yaml")
    assert (done.code, done.err) == (130, "")
    assert done.out.splitlines()[-1] == (
        "the job goes on: `gigpo jobs follow j1` watches it, `gigpo down` stops the stack"
    )
    assert [request.method for request in fake_api.requests] == ["POST"]
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_leaves_a_comparison_s_jobs_and_says_how_to_go_on(
    fake_api: FakeApi, gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    finishes(fake_api)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gigpo.client.commands.comparing.follow", interrupted)
    done = gigpo("compare", "job.yaml", "--estimators", "gigpo", "--seeds", "0")
    assert (done.code, done.out.splitlines()[-1]) == (
        130,
        "its jobs go on: the same `gigpo compare` goes on with them, `gigpo down` stops the stack",
    )


def test_results_that_cannot_be_written_cost_nothing(fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    finishes(fake_api)
    for arguments in (("train", "job.yaml"), ("jobs", "follow", "j1")):
        refused = gigpo(*arguments, "--output", "mine")
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert "mine contains other files than a gigpo result: notes.txt" in refused.err
    assert not [request for request in fake_api.requests if request.method == "POST"]
    assert gigpo("train", "job.yaml", "--output", "mine", "--force").code == 0
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    again = gigpo("train", "job.yaml", "--output", "mine", "--force")
    assert "mine holds results of job j1; those of this job will replace them" in again.out.splitlines()


def test_results_of_an_earlier_job_stay(fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for job_id, folder in (("j1", "demo"), ("j2", "demo.2"), ("j3", "demo.3")):
        finishes(fake_api, job_id, name="demo")
        fake_api.answers[f"GET /v1/jobs/{job_id}/summary"] = summary(job_id=job_id)
        done = gigpo("train", "job.yaml", "--name", "demo")
        assert (done.code, done.out.splitlines()[-1]) == (0, f"results: runs/{folder}")
        said = f"runs/demo holds results of job j1; those of this job go to runs/{folder}"
        assert (said in done.out.splitlines()) == (job_id != "j1")
    written = {path.parent.name: json.loads(path.read_text())["job_id"] for path in runs.glob("*/summary.json")}
    assert written == {"demo": "j1", "demo.2": "j2", "demo.3": "j3"}
    assert gigpo("jobs", "follow", "j2").out.splitlines()[-1] == "results: runs/demo.2"  # its own
    refused = gigpo("train", "job.yaml", "--output", "runs/demo")
    assert (refused.code, refused.err) == (
        2,
        "gigpo: runs/demo holds results of job j1; name another folder, or give --force, which replaces them\n",
    )
    assert gigpo("jobs", "follow", "j3", "--output", "runs/demo").code == 2
    assert gigpo("train", "job.yaml", "--name", "demo", "--force").out.splitlines()[-1] == "results: runs/demo"
    assert json.loads((runs / "demo" / "summary.json").read_text())["job_id"] == "j3"


def test_a_checkpoint_of_another_job_of_the_name_stays(fake_api: FakeApi, gigpo: Gigpo) -> None:
    for job_id, folder in (("j1", "demo"), ("j1", "demo"), ("j2", "demo.2")):
        finishes(fake_api, job_id, name="demo")
        assert gigpo("checkpoints", "download", job_id).out == f"written: runs/{folder}/final\n"


def test_a_warm_start_trains_no_batch(fake_api: FakeApi, gigpo: Gigpo) -> None:
    finishes(fake_api)
    none = gigpo("warmstart", "job.yaml", "--model", "job:j9/final")
    assert (none.code, none.err) == (2, "gigpo: model.warmstart: the job has none, so there is nothing to make\n")
    assert gigpo("warmstart").code == 0
    assert submitted(fake_api)["training"]["total_batches"] == 0


def test_a_dry_run_shows_estimates_and_warnings_and_submits_nothing(fake_api: FakeApi, gigpo: Gigpo) -> None:
    estimates = {"parameters": 85888, "env_steps": 1_000_000, "newer": "x"}
    fake_api.answers["POST /v1/jobs"] = {"spec": SPEC, "estimates": estimates, "warnings": ["rather [long]"]}
    shown = gigpo("train", "job.yaml", "--dry-run")
    assert shown.rows == [
        ["parameters", "85,888"],
        ["env_steps", "1,000,000"],
        ["newer", "x"],
        ["warning:", "rather", "[long]"],
    ]
    assert fake_api.query() == {"dry_run": "true"}
    assert "idempotency-key" not in fake_api.requests[-1].headers
    assert gigpo("train", "job.yaml", "--dry-run", "--json").document["estimates"] == estimates


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "job.yaml", "--config", "job.yaml"), "want one job file, got job.yaml and --config job.yaml"),
        (("train", "none.yaml"), "none.yaml: cannot be read: No such file or directory"),
        (("train", "job.yaml", "--seed", "many"), "training.seed: want a whole number, got 'many'"),
        (("train", "job.yaml", "--environment_kwargs", "{a: "), "--environment_kwargs: want a value in YAML or JSON"),
        (("compare", "job.yaml", "--seed", "1"), "--seed: a comparison chooses it; use --estimators and --seeds"),
        (("compare", "job.yaml", "--seeds", "1,x"), "--seeds: want numbers such as 0,1,2, got '1,x'"),
        (("compare", "bad.yaml"), "algorithm: want a mapping, got 5"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "bad.yaml").write_text("model: {scratch: {}}\nalgorithm: 5\n")
    done = gigpo(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"gigpo: {words}")
    assert fake_api.requests == []


def test_estimators_and_seeds_are_taken_once_and_checked() -> None:
    assert _estimators("grpo, gigpo,grpo") == ["grpo", "gigpo"]
    assert _seeds("3,1,3") == [3, 1]
    for names in ("ppo", "", ","):
        with pytest.raises(BadInput, match="--estimators: want some of"):
            _estimators(names)
    with pytest.raises(BadInput, match="want numbers >= 0"):
        _seeds("0,-1")


def test_a_comparison_writes_its_files_and_runs_only_what_is_missing(
    fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path
) -> None:
    finishes(fake_api)
    arguments = ("compare", "job.yaml", "--name", "c", "--estimators", "rloo,gigpo", "--seeds", "0,1")
    done = gigpo(*arguments)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "4 jobs, 0 of them done before"
    sent = [request for request in fake_api.requests if request.method == "POST"]
    specs = [json.loads(request.content) for request in sent]
    names = ["c-rloo-s0", "c-gigpo-s0", "c-rloo-s1", "c-gigpo-s1"]
    assert [(one["name"], one["training"]["seed"]) for one in specs] == list(zip(names, (0, 0, 1, 1), strict=True))
    assert all(one.headers["idempotency-key"].startswith("compare:") for one in sent)
    assert len({one.headers["idempotency-key"] for one in sent}) == 4
    folder = tmp_path / "runs" / "c"
    assert {path.name for path in folder.glob("comparison.*")} == {
        "comparison.json", "comparison.csv", "comparison.png", "comparison.html"
    }  # fmt: skip
    rows = list(csv.reader((folder / "comparison.csv").read_text().splitlines()))
    assert [row[:2] for row in rows[1:]] == [["rloo", "2"], ["gigpo", "2"]]
    assert "rloo is unscaled" in done.out

    (folder / "gigpo-s1" / "cell.json").write_text(json.dumps({"sha": "another spec", "job": "j1"}))
    refused = gigpo(*arguments)
    assert (refused.code, refused.err) == (
        2,
        "gigpo: runs/c/gigpo-s1 holds results of another comparison, whose spec differs; give this one a --name of its "
        "own, or --force, which replaces them\n",
    )
    again = gigpo(*arguments, "--force")
    assert again.out.splitlines()[0] == "4 jobs, 3 of them done before"
    assert len([one for one in fake_api.requests if one.method == "POST"]) == 5


def test_a_comparison_names_the_jobs_that_did_not_succeed(fake_api: FakeApi, gigpo: Gigpo) -> None:
    finishes(fake_api, state="RUNNING")
    states = ["RUNNING", "RUNNING", "CANCELLED", "CANCELLED"]
    begun = fake_api.answers["GET /v1/jobs/j1"]

    fake_api.answers["GET /v1/jobs/j1"] = lambda: {**begun, "state": states.pop(0) if states[1:] else states[0]}
    done = gigpo("compare", "job.yaml", "--estimators", "gigpo", "--seeds", "0", "--json")
    assert (done.code, done.err.splitlines()[-1]) == (1, "gigpo: 1 of 1 jobs did not succeed: gigpo-s0")
    assert done.document["rows"][0]["seeds"] == 0


def test_the_api_s_refusal_is_the_command_s(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers["POST /v1/jobs"] = problem(422, "environment.environment: unknown environment 'nope'")
    refused = gigpo("train", "job.yaml", "--no-follow")
    assert (refused.code, refused.err) == (2, "gigpo: environment.environment: unknown environment 'nope'\n")
    fake_api.answers["POST /v1/jobs"] = problem(500, "the request failed")
    assert gigpo("train", "job.yaml", "--no-follow").code == 3


def test_the_default_job_runs_where_no_file_is_named(fake_api: FakeApi, gigpo: Gigpo) -> None:
    finishes(fake_api)
    assert gigpo("train", "--no-follow").code == 0
    assert checked(submitted(fake_api)) == checked(default_document())


def test_the_live_line_knows_every_figure_by_its_word() -> None:
    assert list(FIGURES) == [
        "success",
        "return_mean",
        "episode_advantage_share",
        "step_advantage_share",
        "tokens_per_s",
        "env_steps_per_s",
    ]


@pytest.fixture
def no_stack(
    fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Gigpo:
    """`gigpo` where no API is named and no stack is up."""
    monkeypatch.chdir(tmp_path)
    return command_line(fake_api, monkeypatch, capsys, known=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {scratch: {}}\nrolout: {}\n", "rolout: unknown key"),
        ("model: [", "job.yaml: not valid YAML"),
        ("model: {scratch: {}}\nenvironment: {environment: gird}\nrollout: {max_completion_length: 6}\n",
         "environment.environment: unknown environment 'gird'"),
        ("model: {model: nowhere}\n", "model.model: no such folder: nowhere"),
        ("model: {scratch: {hidden_size: 65536, num_attention_heads: 512, num_hidden_layers: 99}}\n"
         "rollout: {max_completion_length: 6}\n", "model.scratch: the trainer needs "),
    ],
)  # fmt: skip
def test_a_dry_run_without_a_stack_looks_at_the_job(
    no_stack: Gigpo, fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    described = {"id": "grid", "vocabulary": ["go"]}
    known = [{"info": described, "unavailable_reason": ""}]
    monkeypatch.setattr("gigpo.client.dry_run.installed_environments", lambda: known)
    (tmp_path / "job.yaml").write_text(text)
    refused = no_stack("train", "job.yaml", "--dry-run")
    assert (refused.code, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert refused.err.startswith(f"gigpo: {words}")
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(SPEC))
    shown = no_stack("train", "job.yaml", "--dry-run")
    assert (shown.code, shown.rows[0][0]) == (0, "parameters")
    assert ["time", "unknown,"] in [row[:2] for row in shown.rows]
    assert fake_api.requests == []
    assert not (tmp_path / "runs").exists()


def test_the_client_alone_checks_the_job_file(no_stack: Gigpo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gigpo.client.dry_run.find_spec", lambda _: None)
    shown = no_stack("train", "job.yaml", "--dry-run")
    assert (shown.code, shown.out) == (
        0,
        "warning: no API is running and only the client is installed here: nothing but the job file is checked\n",
    )


def test_what_a_submission_is_warned_of_is_shown(fake_api: FakeApi, gigpo: Gigpo) -> None:
    finishes(fake_api, warnings=["model.scratch: rather large"])
    assert gigpo("train", "job.yaml", "--no-follow").out.splitlines()[1] == "warning: model.scratch: rather large"


def test_a_comparison_is_checked_and_estimated_without_a_job(fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path) -> None:
    def planned() -> dict[str, Any]:
        estimator = json.loads(fake_api.requests[-1].content)["algorithm"]["advantage_estimator"]
        return {"spec": SPEC, "estimates": {"parameters": 85888}, "warnings": ["long", f"of {estimator}"]}

    fake_api.answers["POST /v1/jobs"] = planned
    arguments = ("compare", "job.yaml", "--dry-run", "--estimators", "rloo,gigpo", "--seeds", "0,1,2")
    shown = gigpo(*arguments)
    assert [" ".join(row) for row in shown.rows] == [
        "6 jobs, 0 of them done before",
        "one job of rloo:",
        "parameters 85,888",
        "warning: long",
        "warning: of rloo",
        "gigpo, where it differs:",
        "warning: of gigpo",
        "6 such jobs run one after another",
    ]
    assert [request.url.params.get("dry_run") for request in fake_api.requests] == ["true", "true"]
    assert not (tmp_path / "runs").exists()
    told = gigpo(*arguments, "--json").document
    assert (told["jobs"], told["to_run"], list(told["each"])) == (6, 6, ["rloo", "gigpo"])
    fake_api.answers["POST /v1/jobs"] = problem(422, "environment.environment: unknown environment 'nope'")
    assert gigpo(*arguments).code == 2
