"""The wheel in an environment of its own: all of the project comes from the wheel, nothing from this checkout."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.packaging.conftest import Run, packages_of

TOP_LEVEL = {"gigpo", "gigpo_core", "gigpo_proto", "services"}


def test_only_names_of_ours_are_installed_at_the_top(environment: Path):
    assert {
        path.name for path in packages_of(environment).iterdir() if path.is_dir() and ".dist-info" not in path.name
    } == TOP_LEVEL


def test_users_import_gigpo_and_gigpo_core(run: Run, environment: Path):
    program = (
        "import gigpo, gigpo_core; from gigpo import GigpoClient, AsyncGigpoClient, GigpoError;"
        "from gigpo.env import Environment, Observation, Outcome; print(gigpo.__file__, gigpo_core.__file__)"
    )
    answer = run("python", "-c", program)
    assert answer.returncode == 0, answer.stderr
    assert all(str(environment) in path for path in answer.stdout.split())


def test_the_command_helps(run: Run):
    answer = run("gigpo", "--help")
    assert answer.returncode == 0, answer.stderr
    assert "train" in answer.stdout


def test_the_environments_are_listed(run: Run):
    answer = run("gigpo", "env", "list", "--json")
    assert answer.returncode == 0, answer.stderr
    assert {"grid", "prompts", "openenv"} <= {entry["info"]["id"] for entry in json.loads(answer.stdout)}


def test_a_stack_comes_up_from_another_folder(run: Run, tmp_path: Path):
    try:
        up = run("gigpo", "up", "--detach", "--json")
        assert up.returncode == 0, up.stderr
        assert json.loads(up.stdout)["data_dir"] == str(Path("runs/.platform"))
        listed = run("gigpo", "jobs", "list", "--json")
        assert listed.returncode == 0, listed.stderr
    finally:
        down = run("gigpo", "down")
    assert down.returncode == 0, down.stderr
