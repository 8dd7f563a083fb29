"""`gigpo up` and `gigpo down`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from gigpo.client.errors import BadInput, NoStack
from gigpo.client.own_files import require_writable
from gigpo.client.session import DEFAULT_RUNS, Json, Runs, console, emit, says_errors
from gigpo.client.stack import (
    RunningStack,
    data_dir,
    keep_stack,
    running_stack,
    stack_command,
    stack_holder,
    stack_variables,
    start_stack,
    stop_stack,
)

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return when the stack is up, and leave it running.")]
Port = Annotated[
    int | None,
    typer.Option("--port", min=0, max=65535, metavar="PORT", help="Port of the API; 0: one that the system gives."),
]


@says_errors
def up(detach: Detach = False, port: Port = None, runs: Runs = DEFAULT_RUNS, json_output: Json = False) -> None:
    """Start the whole platform on this machine: queue, environments, inference, trainer, API.

    Everything it keeps lies in RUNS/.platform. Ctrl-C stops it, and a later `gigpo up` goes on with unfinished jobs.
    Its API takes port 8400 when that is free; a port that was asked for, by --port or STACK_API_PORT, is taken or the
    stack does not start.
    """
    if json_output and not detach:
        raise BadInput("--json: want --detach with it; in the foreground the stack speaks until it ends")
    stack, words = running_stack(runs), console(json_output)
    if stack is not None:
        _require_port(port, stack)
    if not detach:
        command = stack_command()
        if stack is None:
            require_writable(data_dir(runs))
        data_dir(runs).mkdir(parents=True, exist_ok=True)
        os.execvpe(command[0], command, stack_variables(runs, port))
    if stack is not None:
        words.print(f"a stack is up already: process {stack.pid}, API {stack.api_url}")
    else:
        stack = start_stack(runs, words.print, port=port)
        _require_port(port, stack)
        words.print(f"the stack is up: process {stack.pid}, API {stack.api_url}; `gigpo down` stops it")
    keep_stack(runs)
    if json_output:
        emit({"pid": stack.pid, "api_url": stack.api_url, "data_dir": str(data_dir(runs))})


def _require_port(port: int | None, stack: RunningStack) -> None:
    """Refuse a stack that is up on another port than the one that was asked for."""
    if port and not stack.api_url.endswith(f":{port}"):
        raise BadInput(f"--port: want {port}, a stack is up on {stack.api_url} already; `gigpo down` stops it")


@says_errors
def down(runs: Runs = DEFAULT_RUNS, json_output: Json = False) -> None:
    """Stop this folder's stack, also one that is coming up. Running jobs go on from their last checkpoint when it is
    started again."""
    pid = stack_holder(runs)
    if not pid:
        raise NoStack(f"no stack is running in {runs}")
    if not stop_stack(runs, pid):
        raise NoStack(f"process {pid} does not stop; its log is {data_dir(runs) / 'logs' / 'stack.log'}")
    console(json_output).print("the stack is down")
    if json_output:
        emit({"pid": pid, "stopped": True})
