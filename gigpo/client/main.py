"""The `gigpo` command."""

from __future__ import annotations

import sys

import typer

from gigpo.client.commands import (
    access,
    beginning,
    changing,
    checkpoints,
    comparing,
    contract,
    dead_letters,
    diagnosing,
    environments,
    evaluations,
    examination,
    jobs,
    keeping,
    overview,
    rollouts,
    stack,
    training,
    watching,
)
from gigpo.client.commands.examination import takes_version
from gigpo.client.errors import BAD_INPUT, FAILED, OK, GigpoError
from gigpo.client.help_text import unwrap
from gigpo.client.job_command import JobCommand
from gigpo.client.missing import missing_package
from gigpo.client.wrong_call import sentence

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("-", "_"),  # --dry_run is --dry-run
    },
    help="Train LLM agents with GiGPO. `gigpo train` alone runs the default job on this machine; "
    "`gigpo COMMAND --help` explains each command with examples.",
    epilog="Exit codes: 0 done, 1 a job failed, 2 something you gave is wrong, 3 no API answers, 130 interrupted. "
    "With --json stdout holds one JSON document (`jobs logs`: one a line) and words for people go to stderr. "
    "`gigpo --install-completion` completes commands, flags, values and jobs in your shell.",
)
app.callback()(takes_version)
app.command(cls=JobCommand)(training.train)
app.command(cls=JobCommand)(training.warmstart)
app.command(cls=JobCommand)(comparing.compare)
app.command()(beginning.init)
app.command()(overview.status)
app.command()(overview.logs)
app.command()(diagnosing.diagnose)
app.command()(changing.changed)
app.command()(changing.states)
app.command()(watching.watch)
jobs.app.add_typer(keeping.app)  # the group has no name: its commands are those of `gigpo jobs`
app.add_typer(jobs.app, name="jobs")
app.add_typer(rollouts.app, name="rollouts")
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(evaluations.app, name="eval")
app.add_typer(environments.app, name="env")
app.add_typer(dead_letters.app, name="dlq")
app.add_typer(access.keys, name="keys")
app.add_typer(access.projects, name="projects")
app.command()(stack.up)
app.command()(stack.down)
app.command()(contract.openapi)
app.command()(examination.doctor)
app.command()(examination.version)


def main() -> None:
    """Run the command and end the process with its exit code; a wrong call is reported in one message."""
    command = typer.main.get_command(app)
    unwrap(command)
    try:
        status = command.main(sys.argv[1:], prog_name="gigpo", standalone_mode=False)
    except typer.TyperException as error:
        if error.format_message():  # an error without words only showed the help
            sys.stderr.write(f"gigpo: {sentence(error, command, sys.argv[1:])}\n")
        sys.exit(error.exit_code)
    except GigpoError as error:
        sys.stderr.write(f"gigpo: {error}\n")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if (missing := missing_package(error)) is None:
            raise
        sys.stderr.write(f"gigpo: {missing}\n")
        sys.exit(BAD_INPUT)
    except typer.Abort:
        sys.stderr.write("gigpo: aborted, nothing was changed\n")
        sys.exit(FAILED)
    sys.exit(status or OK)


if __name__ == "__main__":
    main()
