"""Finds the stack of a folder, starts it in the background, and stops it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from gigpo.client.errors import BadInput, NoStack
from gigpo.client.missing import how_to_install
from gigpo.client.own_files import require_writable

START_S = 900.0
"""Longest wait for a stack to be up: three stages, each of which may take minutes on a busy machine; ten seconds are
usual. One that ends is noticed at once."""
STOP_S = 120.0
"""Longer than the deadlines of all services together."""
REFUSED = 2
"""Exit status of a stack that does not want its settings, or whose folder another one holds."""
_POLL_S = 0.2
_USERS, _TEMPORARY = "stack.users", "stack.temporary"
"""A lock that whoever speaks to the stack shares; the process id of a stack that is stopped when nobody needs it."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class RunningStack:
    """A stack that holds a folder."""

    pid: int
    api_url: str


def data_dir(runs: Path) -> Path:
    """The data folder of the stack of a results' folder."""
    return runs / ".platform"


def found_runs(runs: Path, start: Path | None = None) -> Path:
    """The results' folder of this name whose stack is up: in `start` (default: here) or the nearest folder above.

    The search goes up as git's for its repository does; only folders of this user count. Where no stack is up,
    `runs` as it was given.
    """
    start = Path.cwd() if start is None else start
    for place in (start, *start.parents):
        if stack_holder(place / runs) is not None and (place / runs).stat().st_uid == os.geteuid():
            return runs if place == start else Path(os.path.relpath(place / runs, start))
    return runs


def running_stack(runs: Path) -> RunningStack | None:
    """The stack that is up in this folder; None: there is none, or it is not ready yet."""
    holder = stack_holder(runs)
    if holder is None:
        return None  # what its record says is left from a stack that was killed
    try:
        record = json.loads((data_dir(runs) / "stack.json").read_text())
        stack = RunningStack(int(record["pid"]), str(record["api_url"]))
        return stack if stack.pid == holder else None  # otherwise the record is older than the lock
    except (OSError, ValueError, KeyError, TypeError):
        return None


def stack_holder(runs: Path) -> int | None:
    """The process that holds this folder, whether or not its stack is up; None: there is none.

    0: it has not said its id yet.
    """
    try:
        with (data_dir(runs) / "stack.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = lock.read().strip()
                return int(text) if text.isdecimal() else 0
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    return None


def stack_command() -> list[str]:
    """The command of a stack in the foreground. Raises NoStack when this installation is the client alone."""
    if find_spec("services.stack") is None or find_spec("uvicorn") is None:
        here = f"{how_to_install()} brings a stack"
        raise NoStack(f"this installation is the client alone: {here}, --api URL names an API elsewhere")
    return [sys.executable, "-m", "services.stack.main"]


def stack_variables(runs: Path, port: int | None = None) -> dict[str, str]:
    """Environment variables that place a stack in this folder, its API on this port."""
    chosen = {} if port is None else {"STACK_API_PORT": str(port)}
    return {**os.environ, **chosen, "STACK_DATA_DIR": str(data_dir(runs))}


def start_stack(runs: Path, say: Say, *, port: int | None = None, temporary: bool = False) -> RunningStack:
    """Start a stack that outlives this process and wait until it is up; its words go to logs/stack.log.

    A stack that is coming up in this folder already is waited for instead. When this process ends before its stack is
    up, however it ends, the stack stops too.

    Args:
        say: takes one line for the user.
        port: of its API; None: as STACK_API_PORT says.
        temporary: it may be stopped when nobody uses it (`stack_in_use`).

    Raises:
        BadInput: it refused its settings, or no file can be written in its data folder.
        NoStack: it ended, or was not up in time; the message holds the end of its log.
    """
    if stack_holder(runs) is not None:
        say(f"a stack is coming up in {runs} already: waiting for it")
        if (stack := _waited_for(runs, lambda: stack_holder(runs) is not None)) is not None:
            return stack
    require_writable(data_dir(runs))
    command, logs = stack_command(), data_dir(runs) / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / "stack.log"
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            command,
            env={**stack_variables(runs, port), "STACK_HANDOVER": "true"},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # it lives on when this terminal closes
        )
    assert process.stdin is not None
    with _stopped_unless_up(process, process.stdin, say):
        stack = _waited_for(runs, lambda: process.poll() is None or stack_holder(runs) is not None)
        if stack is None:
            raise _failure(process, log, _tail(log, begin))
        if stack.pid == process.pid and temporary:
            (data_dir(runs) / _TEMPORARY).write_text(str(stack.pid))
        with suppress(BrokenPipeError):  # it ended because another one was quicker
            process.stdin.write(b"stay\n")
            process.stdin.flush()
    return stack


def stop_stack(runs: Path, pid: int) -> bool:
    """Ask the stack to stop and wait until it has. False: it is still there after two minutes."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    deadline = time.monotonic() + STOP_S
    while time.monotonic() < deadline:
        if stack_holder(runs) is None:
            return True
        time.sleep(_POLL_S)
    return False


def keep_stack(runs: Path) -> None:
    """Let the stack live on without users."""
    (data_dir(runs) / _TEMPORARY).unlink(missing_ok=True)


@contextmanager
def stack_in_use(runs: Path) -> Iterator[Callable[[], bool]]:
    """Keep others from stopping the folder's stack while the block runs.

    Yields a question for its end, whether the stack is temporary and nobody else uses it; after the answer "yes"
    everybody who wants to use it waits for the end of the block.
    """
    data_dir(runs).mkdir(parents=True, exist_ok=True)
    with (data_dir(runs) / _USERS).open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)

        def can_be_stopped() -> bool:
            with suppress(OSError):
                temporary = (data_dir(runs) / _TEMPORARY).read_text()
                if temporary == str(stack_holder(runs)):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
            return False

        yield can_be_stopped


def _waited_for(runs: Path, is_coming: Callable[[], bool]) -> RunningStack | None:
    """The folder's stack once it is up; None: it does not come, or was not up in time."""
    deadline = time.monotonic() + START_S
    while is_coming() and time.monotonic() < deadline:
        if (stack := running_stack(runs)) is not None:
            return stack
        time.sleep(_POLL_S)
    return running_stack(runs)


@contextmanager
def _stopped_unless_up(process: subprocess.Popen[bytes], pipe: IO[bytes], say: Say) -> Iterator[None]:
    """Stop the stack that is starting when the block fails: at the end of the pipe without a word it stops."""
    try:
        yield
    except BaseException:
        if process.poll() is None:
            say("stopping the stack that was starting")
        pipe.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
        raise
    finally:
        with suppress(BrokenPipeError):
            pipe.close()


def _failure(process: subprocess.Popen[bytes], log: Path, tail: str) -> BadInput | NoStack:
    status = process.poll()
    if status == REFUSED:
        return BadInput(tail.splitlines()[-1].removeprefix("stack: "))
    what = f"was not up within {START_S:g} s" if status is None else f"ended with {status}"
    return NoStack(f"the stack {what}; the end of {log}:\n{tail}")


def _tail(log: Path, begin: int) -> str:
    return log.read_bytes()[begin:].decode(errors="replace")[-3_000:].strip() or "(empty)"
