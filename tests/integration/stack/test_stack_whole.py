"""The whole stack as `gigpo up` runs it: up, crashes inside, a crash of the supervisor, down; no process is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[3]
SERVICES = {"valkey", "env", "inference", "rollout", "advantage", "trainer", "api"}


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    given = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "GIGPO_RUNS": str(tmp_path / "runs")}
    given.pop("GIGPO_API_URL", None)
    return {**given, "STACK_API_PORT": "0", "STACK_DRAIN_S": "0.5"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The stack's data folder; whatever still runs on it at the end is killed."""
    yield tmp_path / "runs" / ".platform"
    for pid in processes_on(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def gigpo(variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gigpo.client.main", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=150, check=False)


def processes_on(folder: Path) -> list[int]:
    """Every process that a stack on this folder started, directly or not: they inherit the variable that names it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"STACK_DATA_DIR={folder}/".encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "stack.json").read_text()))


def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_well(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/healthz", timeout=20).status_code == 200
    return False


def test_a_stack_comes_up_heals_itself_and_leaves_nothing(
    variables: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    up = gigpo(variables, "up", "--detach", "--json")
    assert up.returncode == 0, up.stderr
    url = json.loads(up.stdout)["api_url"]
    assert set(record(folder)["services"]) == SERVICES
    until(lambda: is_well(url))

    second = subprocess.run(
        [sys.executable, "-m", "services.stack.main"],
        env={**variables, "STACK_DATA_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (second.returncode, url in second.stderr) == (2, True)

    for name in ("rollout", "api", "env", "valkey"):
        os.kill(record(folder)["services"][name]["pid"], signal.SIGKILL)
    log = folder / "logs" / "stack.log"
    until(lambda: all(f"{name} ended with -9; restart 1" in log.read_text() for name in ("rollout", "api", "env")))
    until(lambda: is_well(url))

    down = gigpo(variables, "down")
    assert down.returncode == 0, down.stderr
    until(lambda: processes_on(tmp_path) == [], 5.0)
    assert not (folder / "stack.json").exists()


def test_a_stack_whose_supervisor_was_killed_leaves_nothing_and_starts_again(
    variables: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    assert gigpo(variables, "up", "--detach").returncode == 0
    os.kill(record(folder)["pid"], signal.SIGKILL)
    until(lambda: processes_on(tmp_path) == [], 30.0)
    assert gigpo(variables, "jobs", "list").returncode == 3
    again = gigpo(variables, "up", "--detach")
    assert again.returncode == 0, again.stderr
    assert gigpo(variables, "jobs", "list").returncode == 0
    assert gigpo(variables, "down").returncode == 0
    until(lambda: processes_on(tmp_path) == [], 5.0)
