from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.api.api_process import ApiProcess, environment_service, running_api

ROOT = Path(__file__).parents[3]

Gigpo = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def api(
    redis_server: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[ApiProcess]:
    """A running API on SQLite, or on PostgreSQL where a test module asks for that by parameter."""
    kind = getattr(request, "param", "sqlite")
    url = "" if kind == "sqlite" else request.getfixturevalue("postgres").new_database()
    folder = tmp_path_factory.mktemp("data")
    with (
        environment_service() as address,
        running_api(folder, redis_server, address, API_DATABASE_URL=url) as process,
    ):
        yield process


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Environment variables of a command that runs in a folder of its own."""
    given = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "GIGPO_RUNS": str(tmp_path / "runs")}
    return {name: value for name, value in given.items() if name not in {"GIGPO_API_URL", "GIGPO_API_KEY"}}


@pytest.fixture
def gigpo(variables: dict[str, str], tmp_path: Path) -> Gigpo:
    """Run the command as a user does; the first argument is the subcommand."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gigpo.client.main", *arguments]
        return subprocess.run(
            command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )

    return run
