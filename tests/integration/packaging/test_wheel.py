"""The wheel in an environment of its own: all of the project comes from the wheel, nothing from this checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = ("gigpo", "gigpo_core", "proto", "services", "pyproject.toml", "README.md", "LICENSE")
TOP_LEVEL = {"gigpo", "gigpo_core", "gigpo_proto", "services"}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it; it finds the dependencies where this test finds them."""
    sources = tmp_path_factory.mktemp("sources")
    for name in SOURCES:  # a copy: building leaves files beside the sources
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, sources / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    wheels = tmp_path_factory.mktemp("wheels")
    build = ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(wheels)]
    subprocess.run([*pip, *build, str(sources)], check=True)

    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # a plain path: `.pth` files in it, such as that of an editable install of this checkout, are not followed
    (packages / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    (wheel,) = wheels.glob("gigpo_platform-*.whl")
    install = ["--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, *install, str(wheel)], check=True)
    return folder


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Run:
    """Runs a program of that environment in an empty folder."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GIGPO_API_URL")}
    variables = {**kept, "STACK_API_PORT": "0", "STACK_DRAIN_S": "0.5"}

    def run_program(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(environment / "bin" / program), *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=170, check=False
        )

    return run_program


def test_only_names_of_ours_are_installed_at_the_top(environment: Path):
    (packages,) = environment.glob("lib/python*/site-packages")
    assert {path.name for path in packages.iterdir() if path.is_dir() and ".dist-info" not in path.name} == TOP_LEVEL


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
