"""`gigpo env play | check | bench | new`, found by the `gigpo` command through the entry point group `gigpo.commands`.

Only the standard library and typer are imported here: `gigpo --help` must stay quick.
"""

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO, TypeVar

import typer

if TYPE_CHECKING:
    from pydantic import JsonValue

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="The environments that agents act in.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout; words for people go to stderr.")]
Kwargs = Annotated[
    str, typer.Option("--kwargs", metavar="JSON", help="environment_kwargs as a JSON object; default: its own example.")
]


OWN_ENVIRONMENTS = (
    "`gigpo env list` shows them; one of yours is known once its package is installed, or by "
    """ENV_SERVICE_EXTRA_ENVIRONMENTS='{"ID": "module:Class"}'"""
)


@app.command()
def play(
    environment: Annotated[str, typer.Argument(metavar="ID", help="See `gigpo env list`.")],
    kwargs: Kwargs = "",
    split: Annotated[str, typer.Option(help="Default: the environment's first.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the task.")] = 0,
    json_output: Json = False,
) -> None:
    """Play an episode yourself: see what the agent sees, and type what it would do.

    An admissible action can be typed or chosen by its number; Ctrl-D or `quit` ends. Actions can be piped in, one a
    line. Runs on this machine, without a platform.
    """
    from services.env.tools.play import play_episode

    chosen = _kwargs(kwargs)
    transcript = _run(play_episode(environment, chosen, split=split, seed=seed, words=_words(json_output)))
    if json_output:
        _emit(transcript)


@app.command()
def check(
    environments: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="See `gigpo env list`.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every environment that is registered.")] = False,
    kwargs: Kwargs = "",
    json_output: Json = False,
) -> None:
    """Check that environments keep the contract: determinism, anchors, rewards, kwargs, vocabulary, freeing.

    Exit status 1 where a check fails. Extras that are not installed are named, and are no failure. Runs on this
    machine, on a real service with two workers.
    """
    if every == bool(environments):
        raise typer.BadParameter("name environments, or give --all")
    from services.env.tools.conformance import Finding, Result, check_environments
    from services.env.tools.tables import findings_document, findings_table

    words = _words(json_output)

    def report(finding: Finding) -> None:
        if finding.result is Result.FAILED:
            words.write(f"{finding.environment} {finding.kwargs} {finding.check}: {finding.note}\n")

    try:
        findings = _run(check_environments(environments or [], report, kwargs=_kwargs(kwargs)))
    except LookupError as error:
        raise _failure(f"{error.args[0]}; {OWN_ENVIRONMENTS}", 2) from error
    words.write(findings_table(findings))
    if json_output:
        _emit(findings_document(findings))
    if any(finding.result is Result.FAILED for finding in findings):
        raise typer.Exit(1)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Id of the environment: letters, digits and _, such as tic_tac_toe.")],
    folder: Annotated[
        Path, typer.Option("--in", metavar="FOLDER", help="The package is made in FOLDER/NAME.")
    ] = Path(),
    json_output: Json = False,
) -> None:
    """Make a package with an environment to fill in: pyproject with its entry point, the class, and a test.

    `pip install --no-deps -e NAME` registers it, `gigpo env check NAME` checks it, and `gigpo train NAME/job.yaml`
    trains in it.
    """
    from services.env.tools.scaffold import ScaffoldError, make_package

    try:
        files = make_package(name, folder)
    except ScaffoldError as error:
        raise _failure(str(error), 2) from error
    words = _words(json_output)
    words.write("".join(f"{file}\n" for file in files))
    words.write(f"next: pip install --no-deps -e {folder / name} && gigpo env check {name} && gigpo env play {name}\n")
    if json_output:
        _emit({"name": name, "folder": str(folder / name), "files": [str(file) for file in files]})


@app.command()
def bench(
    environment: Annotated[str, typer.Option("--env", metavar="ID", help="See `gigpo env list`.")] = "alfworld",
    kwargs: Kwargs = "",
    sessions: Annotated[int, typer.Option(min=1, help="Live sessions while the throughput is measured.")] = 512,
    latency_sessions: Annotated[int, typer.Option(min=1, help="Live sessions while latency is measured.")] = 64,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each measurement takes.")] = 10.0,
    hold_s: Annotated[
        float, typer.Option("--hold", min=0, help="Seconds for which idle sessions are held; 0: skip this.")
    ] = 0.0,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes of the service.")] = 1,
    json_output: Json = False,
) -> None:
    """Measure steps per second and latency through gRPC, beside an OpenEnv echo server at equal concurrency.

    The service runs in processes of its own on this machine. Where OpenEnv is not installed (`make install-openenv`)
    its figure is null.
    """
    from services.env.tools.bench import Plan, measure
    from services.env.tools.tables import figures_table

    plan = Plan(environment, _kwargs(kwargs), sessions, latency_sessions, seconds, hold_s, workers)
    figures = _run(measure(plan))
    _words(json_output).write(figures_table(figures))
    if json_output:
        _emit(figures)


def _run(work: Coroutine[object, None, T]) -> T:
    """Run to the end; what the service refuses and what cannot be started is one sentence and a status."""
    import grpc

    from services.env.tools.local import status_text
    from services.env.workers.registry import UnavailableError

    try:
        return asyncio.run(work)
    except grpc.aio.AioRpcError as error:
        raise _failure(status_text(error), 2) from error
    except UnavailableError as error:
        raise _failure(str(error), 2) from error
    except (TimeoutError, OSError, ValueError, RuntimeError) as error:
        raise _failure(str(error) or type(error).__name__, 1) from error


def _failure(sentence: str, status: int) -> typer.Exit:
    sys.stderr.write(f"gigpo: {sentence}\n")
    return typer.Exit(status)


def _kwargs(text: str) -> "dict[str, JsonValue] | None":
    """The object that was given; None: none was."""
    if not text:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"--kwargs: want a JSON object, got {text!r}: {error}") from error
    if not isinstance(found, dict):
        raise typer.BadParameter(f"--kwargs: want a JSON object, got {text!r}")
    return found


def _words(json_output: bool) -> TextIO:
    """The console for people."""
    return sys.stderr if json_output else sys.stdout


def _emit(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()
