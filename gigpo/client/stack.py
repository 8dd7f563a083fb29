"""The stack of this folder: find it, start it in the background, stop it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from gigpo.client.errors import NoStack
from gigpo.client.missing import how_to_install

START_S = 900.0
"""Longest wait for a stack to be up: three stages, each of which may take minutes on a busy machine; ten seconds are
usual. One that ends is noticed at once."""
STOP_S = 120.0
"""Longer than the deadlines of all services together."""
_POLL_S = 0.2


@dataclass(frozen=True)
class RunningStack:
    """A stack that holds a folder."""

    pid: int
    api_url: str


def data_dir(runs: Path) -> Path:
    """Where the stack of a results' folder keeps its data."""
    return runs / ".platform"


def running_stack(runs: Path) -> RunningStack | None:
    """The stack that is up in this folder; None: there is none, or it is not ready yet."""
    folder = data_dir(runs)
    if not _is_held(folder):
        return None  # what its record says is left from a stack that was killed
    try:
        record = json.loads((folder / "stack.json").read_text())
        stack = RunningStack(int(record["pid"]), str(record["api_url"]))
        holder = int((folder / "stack.lock").read_text())
        return stack if stack.pid == holder else None  # else the record is older than the lock
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_held(folder: Path) -> bool:
    try:
        with (folder / "stack.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def stack_command() -> list[str]:
    """The command of a stack in the foreground. Raises NoStack when this installation is the client alone."""
    if find_spec("services.stack") is None or find_spec("uvicorn") is None:
        here = f"{how_to_install()} brings a stack"
        raise NoStack(f"this installation is the client alone: {here}, --api URL names an API elsewhere")
    return [sys.executable, "-m", "services.stack.main"]


def stack_variables(runs: Path) -> dict[str, str]:
    """Environment variables that place a stack in this folder."""
    return {**os.environ, "STACK_DATA_DIR": str(data_dir(runs))}


def start_stack(runs: Path) -> RunningStack:
    """Start a stack that outlives this process and wait until it is up; its words go to logs/stack.log.

    Raises:
        NoStack: it ended, or was not up in time; the message holds the end of its log.
    """
    command, logs = stack_command(), data_dir(runs) / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / "stack.log"
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            command,
            env=stack_variables(runs),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # it lives on when this terminal closes
        )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        stack = running_stack(runs)
        if stack is not None:
            return stack
        if process.poll() is not None:
            raise NoStack(f"the stack ended with {process.returncode}; the end of {log}:\n{_tail(log, begin)}")
        time.sleep(_POLL_S)
    process.terminate()
    raise NoStack(f"the stack was not up within {START_S:g} s; the end of {log}:\n{_tail(log, begin)}")


def stop_stack(runs: Path, stack: RunningStack) -> bool:
    """Ask the stack to stop and wait until it has. False: it is still there after two minutes."""
    try:
        os.kill(stack.pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        if not _is_held(data_dir(runs)):
            return True
        time.sleep(_POLL_S)
    return False


def _tail(log: Path, begin: int) -> str:
    return log.read_bytes()[begin:].decode(errors="replace")[-3_000:].strip() or "(empty)"
