"""`gigpo jobs tag`, `rename`, `archive` and `delete` against a real API."""

from __future__ import annotations

import json
import time

import pytest
import yaml

from gigpo.client import GigpoClient
from tests.integration.api.api_process import ApiProcess
from tests.integration.api.job_leftovers import leave_results
from tests.integration.client.conftest import Gigpo
from tests.integration.client.test_client_command import SMALL


def until(client: GigpoClient, job_id: str, state: str) -> None:
    deadline = time.monotonic() + 60
    while client.job(job_id).state != state:
        assert time.monotonic() < deadline, f"{job_id} is not {state}"
        time.sleep(0.05)


@pytest.fixture
def ended(api: ApiProcess) -> str:
    """Id of a job `kept` that has failed and left results."""
    with GigpoClient(api.url) as client:
        job = client.submit({"name": "kept", **yaml.safe_load(SMALL)})
        until(client, job.id, "QUEUED")
        leave_results(api.data_dir, job.id)
        api.say(job.id, "state", state="FAILED", error="out of memory")
        until(client, job.id, "FAILED")
    return job.id


def test_a_job_is_tagged_renamed_archived_and_deleted(api: ApiProcess, gigpo: Gigpo, ended: str) -> None:
    def said(*arguments: str) -> str:
        done = gigpo("jobs", *arguments, "--api", api.url)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def listed(*filters: str) -> list[str]:
        return [one["id"] for one in json.loads(said("list", "--json", *filters))]

    assert said("tag", "kept", "baseline", "seed:0") == f"{ended}: tags baseline seed:0\n"
    assert (listed("--tag", "seed:0"), listed("--tag", "seed:1")) == ([ended], [])
    assert said("rename", "kept", "old") == f"{ended}: name old\n"
    assert said("archive", "old") == f"{ended}: archived\n"
    assert (listed("--name", "old"), listed("--archived", "yes")) == ([], [ended])
    assert said("note", "old", "too small") == f"{ended}: note written\n"  # an archived job is found by its name
    assert said("unarchive", "old") == f"{ended}: no longer archived\n"
    wrong = gigpo("jobs", "tag", "old", "Base Line", "--api", api.url)
    assert (wrong.returncode, wrong.stderr.count("\n"), "Base Line" in wrong.stderr) == (2, 1, True), wrong.stderr
    wrong = gigpo("jobs", "list", "--archived", "maybe", "--api", api.url)
    assert (wrong.returncode, wrong.stderr.count("\n"), "maybe" in wrong.stderr) == (2, 1, True), wrong.stderr

    unasked = gigpo("jobs", "delete", "old", "--api", api.url)  # nobody answers
    assert (unasked.returncode, "would go: " in unasked.stdout) == (1, True), unasked.stderr
    assert (api.data_dir / "jobs" / ended).is_dir()
    gone = json.loads(said("delete", "old", "--yes", "--json"))
    assert gone["files"] == ["base", "checkpoints", "final", "rollouts", "summary.json"]
    assert not (api.data_dir / "jobs" / ended).exists()
    assert listed("--archived", "any", "--name", "old") == []
