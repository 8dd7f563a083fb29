"""The wheel, built from a copy of this checkout, and environments that it is installed into."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
SOURCES = ("gigpo", "gigpo_core", "proto", "services", "pyproject.toml", "README.md", "LICENSE")
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel."""
    sources = tmp_path_factory.mktemp("sources")
    for name in SOURCES:  # a copy: building leaves files beside the sources
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, sources / name)
    wheels = tmp_path_factory.mktemp("wheels")
    build = ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(wheels)]
    subprocess.run([*PIP, *build, str(sources)], check=True)
    (built,) = wheels.glob("gigpo_platform-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it; it finds the dependencies where this test finds them."""
    folder = _installed(wheel, tmp_path_factory.mktemp("environment"))
    # a plain path: `.pth` files in it, such as that of an editable install of this checkout, are not followed
    places = [path for path in sys.path if path.endswith("site-packages")]
    (packages_of(folder) / "dependencies.pth").write_text("\n".join(places))
    return folder


@pytest.fixture(scope="module")
def client_alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and what its extra `client` requires, and nothing else."""
    folder = _installed(wheel, tmp_path_factory.mktemp("client"))
    packages = packages_of(folder)
    (own,) = packages.glob("gigpo_platform-*.dist-info")
    for required in _closure(Distribution.at(own), "client").values():
        for file in required.files or ():
            if file.parts[0] != ".." and not (packages / file.parts[0]).exists():
                (packages / file.parts[0]).symlink_to(Path(str(required.locate_file(file.parts[0]))))
    return folder


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Run:
    """Runs a program of the whole environment in an empty folder."""
    return runner(environment, tmp_path)


@pytest.fixture
def run_client(client_alone: Path, tmp_path: Path) -> Run:
    """Runs a program of the client's environment in an empty folder."""
    return runner(client_alone, tmp_path)


def runner(environment: Path, folder: Path) -> Run:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GIGPO_API_URL")}
    variables = {**kept, "STACK_API_PORT": "0", "STACK_DRAIN_S": "0.5"}

    def run_program(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(environment / "bin" / program), *arguments]
        return subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, timeout=170, check=False
        )

    return run_program


def packages_of(environment: Path) -> Path:
    """Where the packages of an environment lie."""
    (packages,) = environment.glob("lib/python*/site-packages")
    return packages


def _installed(wheel: Path, folder: Path) -> Path:
    venv.create(folder, with_pip=False, symlinks=True)
    install = ["--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*PIP, *install, str(wheel)], check=True)
    return folder


def _closure(of: Distribution, extra: str) -> dict[str, Distribution]:
    """Name -> distribution of everything that it requires with this extra, as this environment has it."""
    found: dict[str, Distribution] = {}
    waiting = [(of, extra)]
    while waiting:
        one, wanted = waiting.pop()
        for text in one.requires or ():
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": wanted}):
                continue
            try:
                required = distribution(requirement.name)
            except PackageNotFoundError:  # optional on this platform
                continue
            if requirement.name not in found:
                found[requirement.name] = required
                waiting += [(required, inner) for inner in ("", *requirement.extras)]
    return found
