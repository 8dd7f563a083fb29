"""The `gigpo` command."""

from __future__ import annotations

import sys

import typer
from pydantic import ValidationError

from gigpo.client.commands import (
    access,
    checkpoints,
    comparing,
    contract,
    environments,
    evaluations,
    examination,
    jobs,
    rollouts,
    stack,
    training,
)
from gigpo.client.errors import BAD_INPUT, FAILED, OK
from gigpo.client.missing import missing_package

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train LLM agents with GiGPO. `gigpo train` alone runs the default job on this machine; "
    "`gigpo COMMAND --help` explains each command with examples.",
    epilog="Exit codes: 0 done, 1 a job failed, 2 something you gave is wrong, 3 no API answers, 130 interrupted. "
    "With --json stdout holds one JSON document (`jobs logs`: one a line) and words for people go to stderr. "
    "`gigpo --install-completion` completes commands and flags in your shell.",
)
app.command()(training.train)
app.command()(training.warmstart)
app.command()(comparing.compare)
app.add_typer(jobs.app, name="jobs")
app.add_typer(rollouts.app, name="rollouts")
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(evaluations.app, name="eval")
app.add_typer(environments.app, name="env")
app.add_typer(access.keys, name="keys")
app.add_typer(access.projects, name="projects")
app.command()(stack.up)
app.command()(stack.down)
app.command()(contract.openapi)
app.command()(examination.doctor)
app.command()(examination.version)


def main() -> None:
    """Run the command and end the process with its exit code; a wrong call is told in one sentence."""
    try:
        status = app(standalone_mode=False, prog_name="gigpo")
    except typer.TyperException as error:
        if error.format_message():  # without: the help was shown
            sys.stderr.write(f"gigpo: {_sentence(error)}\n")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        sentence = missing_package(error)
        if sentence is None:
            raise
        sys.stderr.write(f"gigpo: {sentence}\n")
        sys.exit(BAD_INPUT)
    except typer.Abort:
        sys.stderr.write("gigpo: nothing was done\n")
        sys.exit(FAILED)
    sys.exit(status or OK)


def _sentence(error: typer.TyperException) -> str:
    """What is wrong with the call, and where the right one is explained."""
    possible = sorted(getattr(error, "possibilities", None) or [])
    said = error.message.rstrip(".") if possible else error.format_message().rstrip(".")
    said = said[:1].lower() + said[1:].replace(". Did you mean", ", did you mean")
    if possible:
        said += f", did you mean {' or '.join(possible)}?"
    if isinstance(error.__cause__, ValidationError):  # typer's sentence leaves out what came
        said += f", got {error.__cause__.errors()[0]['input']!r}"
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "gigpo"
    return f"{said}{'' if said.endswith('?') else ';'} `{command} --help` lists what there is"


if __name__ == "__main__":
    main()
