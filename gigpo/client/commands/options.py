"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gigpo.client.completion import complete_job

JobName = Annotated[
    str,
    typer.Argument(metavar="JOB", help="A job's id, or a name: the newest job of it.", autocompletion=complete_job),
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Most entries that are shown.")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the new job.")]
ResultsFolder = Annotated[
    Path | None, typer.Option("--output", help="Folder of the results; default: RUNS/<name or id>.")
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Write beside other files and over other results, replacing those of the same name."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]


def confirm(question: str, yes: bool) -> None:
    """Ask on a terminal, unless the answer was given. Raises typer.Abort for no, and where nobody can be asked."""
    if not yes:
        typer.confirm(question, abort=True, err=True)
