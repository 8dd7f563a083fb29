"""The wheel with its extra `client` and nothing else, as on a laptop that speaks with an API elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.api_process import ENVIRONMENTS, ApiProcess, environment_service, running_api
from tests.integration.api.job_leftovers import leave_results, summary
from tests.integration.packaging.conftest import Run

JOB = "name: laptop\nmodel: {scratch: {}}\nrollout: {max_completion_length: 6}\n"


@pytest.fixture(scope="module")
def api(redis_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API elsewhere."""
    with environment_service() as address, running_api(tmp_path_factory.mktemp("data"), redis_server, address) as api:
        yield api


def test_it_has_no_package_of_a_service(run_client: Run) -> None:
    program = "import importlib.util as u; print([n for n in ('torch', 'grpc', 'fastapi') if u.find_spec(n)])"
    assert run_client("python", "-c", program).stdout.strip() == "[]"


def test_it_lists_the_environments_of_an_api(run_client: Run, api: ApiProcess) -> None:
    answer = run_client("gigpo", "env", "list", "--api", api.url, "--json")
    assert answer.returncode == 0, answer.stderr
    assert {one["info"]["id"] for one in json.loads(answer.stdout)} == {one.id for one in ENVIRONMENTS}
    shown = run_client("gigpo", "env", "show", "grid", "--api", api.url)
    assert (shown.returncode, "Fetch and carry." in shown.stdout) == (0, True), shown.stderr


def test_it_submits_follows_and_downloads(run_client: Run, api: ApiProcess, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(JOB)
    made = run_client("gigpo", "train", "job.yaml", "--no-follow", "--api", api.url, "--json")
    assert made.returncode == 0, made.stderr
    job = json.loads(made.stdout)["id"]
    leave_results(api.data_dir, job)
    api.say(job, "state", state="RUNNING")
    api.say(job, "metrics", batch=0, success=0.5)
    api.say(job, "summary", **{**summary(job), "state": "SUCCEEDED"})
    api.say(job, "state", state="SUCCEEDED")
    followed = run_client("gigpo", "jobs", "follow", "laptop", "--api", api.url)
    assert followed.returncode == 0, followed.stderr
    assert (tmp_path / "runs" / "laptop" / "summary.json").is_file()
    taken = run_client("gigpo", "checkpoints", "download", job, "--output", "policy", "--api", api.url)
    assert taken.returncode == 0, taken.stderr
    assert (tmp_path / "policy" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("command", "status", "extra"),
    [
        (("train",), 3, "embedded"),
        (("warmstart",), 3, "embedded"),
        (("up",), 3, "embedded"),
        (("env", "list"), 3, "env"),
        (("env", "show", "grid"), 3, "env"),
        (("env", "play", "grid"), 2, "env"),
        (("env", "check", "grid"), 2, "env"),
        (("openapi",), 2, "api"),
    ],
)
def test_what_needs_a_service_says_what_to_install(
    run_client: Run, command: tuple[str, ...], status: int, extra: str
) -> None:
    answer = run_client("gigpo", *command)
    assert (answer.returncode, len(answer.stderr.splitlines())) == (status, 1), answer.stderr
    assert f"pip install 'gigpo-platform[{extra}]'" in answer.stderr
    if status == 3:
        assert "--api URL" in answer.stderr
