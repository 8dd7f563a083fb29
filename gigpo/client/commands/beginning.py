"""`gigpo init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from gigpo.client.commands.environments import environment_view
from gigpo.client.commands.options import Force
from gigpo.client.completion import complete_environment
from gigpo.client.document import checked
from gigpo.client.errors import BadInput
from gigpo.client.new_job import new_job, required_kwargs
from gigpo.client.own_files import arriving_file
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Runs, console, says_errors

NewFile = Annotated[Path, typer.Argument(metavar="FILE", help="The job file to write.")]
OfEnvironment = Annotated[
    str,
    typer.Option("--environment", help="Id, as `gigpo env list` shows it.", autocompletion=complete_environment),
]
OfModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FOLDER",
        help="A model in Hugging Face format, or job:ID/CHECKPOINT; without it a small policy from scratch.",
    ),
]
OfName = Annotated[str | None, typer.Option("--name", help="The name of the job.")]


@says_errors
def init(
    file: NewFile = Path("job.yaml"),
    environment: OfEnvironment = "grid",
    model: OfModel = None,
    name: OfName = None,
    force: Force = False,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
) -> None:
    """Write a job file to begin with: the keys that people change, each explained.

    gigpo init                                        a small policy from scratch in the grid
    gigpo init my.yaml --environment alfworld --model models/Qwen2.5-1.5B-Instruct
    gigpo train --dry-run my.yaml

    A file that is there already is not replaced without --force.
    """
    info = environment_view(environment, runs, api).info
    if model is None and not info.vocabulary:
        raise BadInput(f"--model: {environment} names no vocabulary for a policy from scratch, want a model's folder")
    text = new_job(info, model, name)
    checked(yaml.safe_load(text))
    with arriving_file(file, force=force) as target:
        target.write(text.encode())
    words = console(json_output=False)
    words.print(f"written: {file}; `gigpo train --dry-run {file}` checks it, `gigpo train {file}` runs it")
    if missing := required_kwargs(info):
        words.print(f"fill in before: environment_kwargs: {', '.join(missing)}")
