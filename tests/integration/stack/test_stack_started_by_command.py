"""Stacks that commands start: interrupted, started twice at once, on a port that is taken, found from below."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from tests.integration.stack.test_stack_whole import ROOT, gigpo, processes_on, record, until

JOB = {
    "model": {"scratch": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}},
    "environment": {"environment": "grid", "max_turns": 2},
    "rollout": {"groups_per_batch": 1, "num_generations": 2, "max_completion_length": 4},
    "training": {"total_batches": 1, "minibatches": 1},
    "evaluation": {"eval_episodes": 2, "eval_baselines": False},
    "inference": {"engine": "transformers"},
}


@pytest.fixture
def variables(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A home for commands; whatever still runs in it at the end is killed."""
    given = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}
    for name in ("GIGPO_API_URL", "GIGPO_RUNS"):
        given.pop(name, None)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(JOB))
    yield {**given, "STACK_API_PORT": "0", "STACK_DRAIN_S": "0.5"}
    for pid in started(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def started(home: Path) -> list[int]:
    """Processes of stacks in this folder: their data folder is named relative to it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"STACK_DATA_DIR=" in (process / "environ").read_bytes() and (process / "cwd").resolve() == home:
                found.append(int(process.name))
    return found


def begun(variables: dict[str, str], home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gigpo.client.main", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=variables, cwd=home, start_new_session=True, **pipes)  # type: ignore[call-overload,no-any-return]


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.parametrize("command", [("train", "job.yaml"), ("up", "-d")])
def test_ctrl_c_while_a_stack_starts_leaves_nothing(
    variables: dict[str, str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    log = tmp_path / "runs" / ".platform" / "logs" / "stack.log"
    starting = begun(variables, tmp_path, *command)
    until(lambda: log.exists() and "env ready" in log.read_text())
    os.killpg(starting.pid, signal.SIGINT)
    status, out, err = ended(starting)
    assert (status, out.splitlines()[-1], err) == (130, "stopping the stack that was starting", "")
    assert started(tmp_path) == []


def test_a_stack_whose_starter_was_killed_before_it_was_up_stops(variables: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "runs" / ".platform" / "logs" / "stack.log"
    starting = begun(variables, tmp_path, "up", "-d")
    until(lambda: log.exists() and "valkey ready" in log.read_text())
    starting.kill()
    ended(starting)
    until(lambda: started(tmp_path) == [])


def test_two_who_train_at_once_share_a_stack_and_the_last_one_stops_it(
    variables: dict[str, str], tmp_path: Path
) -> None:
    both = [begun(variables, tmp_path, "train", "job.yaml", "--name", f"seed{seed}") for seed in (1, 2)]
    for done, name in zip([ended(one) for one in both], ("seed1", "seed2"), strict=True):
        assert (done[0], done[1].splitlines()[0].startswith("no stack is running in runs: starting one")) == (
            0,
            True,
        ), done
        assert json.loads((tmp_path / "runs" / name / "summary.json").read_text())["state"] == "SUCCEEDED"
    until(lambda: started(tmp_path) == [])


def test_a_stack_is_found_from_folders_below_its_own(variables: dict[str, str], tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    up = ended(begun(variables, tmp_path, "up", "-d", "--json"))
    assert up[0] == 0, up
    listed = ended(begun(variables, below, "jobs", "list", "--json"))
    assert (listed[0], listed[1].strip()) == (0, "[]")
    assert ended(begun(variables, below, "down"))[:2] == (0, "the stack is down\n")
    assert ended(begun(variables, below, "jobs", "list"))[2].startswith("gigpo: no stack is running in runs;")


def test_a_stack_that_is_coming_up_can_be_stopped(variables: dict[str, str], tmp_path: Path) -> None:
    starting = begun(variables, tmp_path, "up", "-d")
    until(lambda: (tmp_path / "runs" / ".platform" / "valkey" / "valkey.log").exists())
    early = ended(begun(variables, tmp_path, "jobs", "list"))
    assert early[::2] == (3, "gigpo: the stack of runs is not up yet; try again in some seconds\n")
    assert ended(begun(variables, tmp_path, "down"))[0] == 0
    assert ended(starting)[0] == 3
    assert started(tmp_path) == []


@pytest.mark.parametrize("by_flag", [True, False])
def test_a_port_that_was_asked_for_and_is_taken_is_refused(
    variables: dict[str, str], tmp_path: Path, by_flag: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        asked = ("--port", str(port)) if by_flag else ()
        refused = begun(
            variables if by_flag else {**variables, "STACK_API_PORT": str(port)}, tmp_path, "up", "-d", *asked
        )
        status, out, err = ended(refused)
    said = f"gigpo: STACK_API_PORT: want a free port, {port} is taken by process {os.getpid()} ("
    assert (status, out, err.startswith(said), err.count("\n")) == (2, "", True, 1), err


def test_a_port_that_another_stack_has_names_its_folder(variables: dict[str, str], tmp_path: Path) -> None:
    here = {**variables, "GIGPO_RUNS": str(tmp_path / "one")}
    assert gigpo(here, "up", "-d").returncode == 0
    port = record(tmp_path / "one" / ".platform")["api_url"].rpartition(":")[2]
    refused = gigpo({**variables, "GIGPO_RUNS": str(tmp_path / "two")}, "up", "-d", "--port", port)
    assert (
        refused.returncode,
        refused.stderr.startswith(
            f"gigpo: STACK_API_PORT: want a free port, {port} is taken by the stack of {tmp_path}/one/.platform ("
        ),
    ) == (2, True), refused.stderr
    assert gigpo(here, "down").returncode == 0
    until(lambda: processes_on(tmp_path) == [])


@pytest.mark.parametrize("port", ["http", "70000", "-1"])
def test_a_port_that_is_none_is_one_sentence(variables: dict[str, str], tmp_path: Path, port: str) -> None:
    status, out, err = ended(begun({**variables, "STACK_API_PORT": port}, tmp_path, "up", "-d"))
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("gigpo: STACK_API_PORT: ")
    assert err.endswith(f"got '{port}'\n")
