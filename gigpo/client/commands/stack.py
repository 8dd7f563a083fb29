"""`gigpo up` and `gigpo down`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from gigpo.client.errors import BadInput, NoStack
from gigpo.client.session import DEFAULT_RUNS, Json, Runs, console, emit, says_errors
from gigpo.client.stack import data_dir, running_stack, stack_command, stack_variables, start_stack, stop_stack

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Return when the stack is up, and leave it running.")]


@says_errors
def up(detach: Detach = False, runs: Runs = DEFAULT_RUNS, json_output: Json = False) -> None:
    """Start the whole platform on this machine: queue, environments, inference, trainer, API.

    Everything it keeps lies in RUNS/.platform. Ctrl-C stops it, and a later `gigpo up` goes on with unfinished jobs.
    Its API takes port 8400 when that is free (STACK_API_PORT chooses another).
    """
    if json_output and not detach:
        raise BadInput("--json: want --detach with it; in the foreground the stack speaks until it ends")
    if not detach:
        command = stack_command()
        data_dir(runs).mkdir(parents=True, exist_ok=True)
        os.execvpe(command[0], command, stack_variables(runs))
    stack, words = running_stack(runs), console(json_output)
    if stack is not None:
        words.print(f"a stack is up already: process {stack.pid}, API {stack.api_url}")
    else:
        stack = start_stack(runs)
        words.print(f"the stack is up: process {stack.pid}, API {stack.api_url}; `gigpo down` stops it")
    if json_output:
        emit({"pid": stack.pid, "api_url": stack.api_url, "data_dir": str(data_dir(runs))})


@says_errors
def down(runs: Runs = DEFAULT_RUNS, json_output: Json = False) -> None:
    """Stop this folder's stack. Running jobs go on from their last checkpoint when it is started again."""
    stack = running_stack(runs)
    if stack is None:
        raise NoStack(f"no stack is up in {runs}")
    if not stop_stack(runs, stack):
        raise NoStack(f"process {stack.pid} does not stop; its log is {data_dir(runs) / 'logs' / 'stack.log'}")
    console(json_output).print("the stack is down")
    if json_output:
        emit({"pid": stack.pid, "stopped": True})
