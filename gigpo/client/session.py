"""The parts that all commands share: the API, the folder, the output, and the translation of errors into exit codes."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ParamSpec

import typer
from rich.console import Console

from gigpo.client.document import hub_models_allowed, require_environment, require_model_folder
from gigpo.client.errors import BAD_INPUT, INTERRUPTED, GigpoError, NoStack
from gigpo.client.stack import (
    found_runs,
    running_stack,
    stack_command,
    stack_holder,
    stack_in_use,
    start_stack,
    stop_stack,
)
from gigpo.client.synchronous import GigpoClient
from services.contracts.job import JobSpec
from services.contracts.states import JobState

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout; words for people go to stderr.")]


def _runs(context: typer.Context, parameter: typer.CallbackParam, given: Path) -> Path:
    """Take the folder of the stack that is up here or in a folder above, unless a folder is named."""
    source = context.get_parameter_source(parameter.name or "")
    return found_runs(given) if source is not None and source.name.startswith("DEFAULT") else given


Runs = Annotated[
    Path,
    typer.Option(
        "--runs",
        envvar="GIGPO_RUNS",
        metavar="FOLDER",
        callback=_runs,
        help="Where results and the stack's data lie; not given: that of the stack that is up, here or in a folder "
        "above.",
    ),
]
ApiUrl = Annotated[
    str | None,
    typer.Option(
        "--api", envvar="GIGPO_API_URL", metavar="URL", help="An API elsewhere; default: this folder's stack."
    ),
]
DEFAULT_RUNS = Path("runs")
PIPE_WIDTH = 160
"""Columns of a table that goes to a file or a pipe."""

_AT_WORK = (JobState.PENDING, JobState.QUEUED, JobState.RUNNING)
"""States in the order in which a job passes them: a job that moves on during the look is found in the next state."""

P = ParamSpec("P")


def says_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turn this package's errors into one sentence on stderr and their exit code."""

    @functools.wraps(command)
    def speaking(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            command(*arguments, **options)
        except GigpoError as error:
            sys.stderr.write(f"gigpo: {error}\n")
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if error.filename is None:
                raise
            sys.stderr.write(f"gigpo: {error.filename}: {error.strerror}\n")  # a folder or a file that was named
            raise typer.Exit(BAD_INPUT) from error
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None

    return speaking


def console(json_output: bool) -> Console:
    """The console for words for people: stdout, or stderr when stdout is for JSON; never cut where nobody looks at it.

    Brackets and colons are text, also in tables: names, tasks and actions may hold them.
    """
    stream = sys.stderr if json_output else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def emit(document: object, *, lines: bool = False) -> None:
    """One JSON document on stdout; with `lines` one of many, on a line of its own."""
    sys.stdout.write(json.dumps(document, indent=None if lines else 2) + "\n")
    sys.stdout.flush()


def api_key() -> str | None:
    """The key from the environment, never from the command line, where others could read it."""

    return os.environ.get("GIGPO_API_KEY") or None


@contextmanager
def connected(runs: Path, api_url: str | None) -> Iterator[GigpoClient]:
    """A client of the named API, or of the stack that is up in this folder. Raises NoStack."""
    if api_url is None:
        stack = running_stack(runs)
        if stack is None:
            raise NoStack(_no_stack(runs))
        api_url = stack.api_url
    with GigpoClient(api_url, api_key()) as client:
        yield client


def _no_stack(runs: Path) -> str:
    if stack_holder(runs) is not None:
        return f"the stack of {runs} is not up yet; try again in some seconds"
    return f"no stack is running in {runs}; start one with `gigpo up`, or name another API with --api"


@contextmanager
def platform_for(spec: JobSpec, runs: Path, api_url: str | None, words: Console) -> Iterator[GigpoClient]:
    """A client of the named API, or of this folder's stack, which is started when none is up.

    A stack that was started like this is stopped by the last one who uses it, when no job needs it.

    Raises:
        BadInput: what this machine's installation would refuse, before anything is started.
        NoStack.
    """
    if api_url is not None:
        with GigpoClient(api_url, api_key()) as client:
            yield client
        return
    is_up = running_stack(runs) is not None
    require_model_folder(spec, hub_models=is_up or hub_models_allowed())  # one that is up answers itself
    if not is_up:
        stack_command()
        require_environment(spec)
    with _used(runs, words, start=True) as client:
        yield client


@contextmanager
def following(runs: Path, api_url: str | None, words: Console) -> Iterator[GigpoClient]:
    """Connect as `connected` does, for as long as a job takes: a stack that was started for jobs stays, and is stopped
    at the end when none is left. Raises NoStack."""
    if api_url is None and running_stack(runs) is None:
        raise NoStack(_no_stack(runs))
    with GigpoClient(api_url, api_key()) if api_url is not None else _used(runs, words, start=False) as client:
        yield client


@contextmanager
def _used(runs: Path, words: Console, *, start: bool) -> Iterator[GigpoClient]:
    """A client of the folder's stack, which nobody stops meanwhile; a temporary one is stopped by the last who uses it.

    `start`: start one when none is up. Raises NoStack.
    """
    with stack_in_use(runs) as can_be_stopped:
        stack = running_stack(runs)
        if stack is None and not start:
            raise NoStack(_no_stack(runs))  # it has just been stopped
        if stack is None:
            words.print(f"no stack is running in {runs}: starting one, which takes some seconds")
            stack = start_stack(runs, words.print, temporary=True)
        with GigpoClient(stack.api_url, api_key()) as client:
            try:
                yield client
            finally:
                if can_be_stopped() and not has_work(client):
                    words.print("stopping the stack, which was started for jobs that have ended")
                    stop_stack(runs, stack.pid)


def has_work(client: GigpoClient) -> bool:
    """Whether a job is left that the stack works on, or would when it runs."""
    return any(list(client.jobs(state=state, limit=1)) for state in _AT_WORK)
