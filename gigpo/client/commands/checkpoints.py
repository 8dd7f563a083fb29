"""`gigpo checkpoints`."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from gigpo.client.commands.options import Force, JobName, Yes, confirm
from gigpo.client.models import Job
from gigpo.client.own_files import owner
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors
from gigpo.client.times import clock

app = typer.Typer(no_args_is_help=True, help="Policies that a job leaves, in Hugging Face format.")

Checkpoint = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the checkpoint, as `gigpo checkpoints list` shows it.")
]
Folder = Annotated[
    Path | None,
    typer.Option("--output", help="Folder, new, empty, or filled by gigpo before; default: RUNS/<job>/<name>."),
]
Tar = Annotated[Path | None, typer.Option("--output", help="New file; default: <job>-<name>.tar here.")]
ForceFile = Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")]


@app.command("list")
@says_errors
def list_checkpoints(job: JobName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Complete checkpoints of a job; `final` is its result."""
    with connected(runs, api) as client:
        found = client.checkpoints(client.find(job).id)
    if json_output:
        emit([one.model_dump() for one in found])
        return
    table = Table("name", "made", "files", "size", box=None)
    for one in found:
        table.add_row(one.name, clock(one.created_unix_s), str(len(one.files)), f"{one.size_bytes / 1e6:,.1f} MB")
    console(json_output).print(table)


@app.command("download")
@says_errors
def download(
    job: JobName,
    name: Checkpoint = "final",
    output: Folder = None,
    force: Force = False,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Fetch a checkpoint as a folder, every file verified; files there stay until all of the new ones have come.

    A folder that holds anything that gigpo did not write is refused. With --force the files are put beside what is
    there, in place of those of the same name; nothing else is removed.

    gigpo checkpoints download demo
    gigpo checkpoints download demo b000040 --output policy
    """
    with connected(runs, api) as client:
        found = client.find(job)
        folder = client.download_checkpoint(found.id, name, output or _usual(runs, found, name), force=force)
    _written(folder, json_output)


@app.command("export")
@says_errors
def export(
    job: JobName,
    name: Checkpoint = "final",
    output: Tar = None,
    force: ForceFile = False,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Fetch a checkpoint as one tar file with a folder in Hugging Face format inside; a file there is refused."""
    with connected(runs, api) as client:
        found = client.find(job)
        target = output or Path(f"{_called(found)}-{name}.tar")
        file = client.export_checkpoint(found.id, name, target, force=force)
    _written(file, json_output)


@app.command("delete")
@says_errors
def delete(
    job: JobName,
    name: Checkpoint,
    yes: Yes = False,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Delete a checkpoint for good; refused for one that a job would go on from."""
    with connected(runs, api) as client:
        found = client.find(job)
        confirm(f"delete checkpoint {name} of job {_called(found)} for good?", yes)
        client.delete_checkpoint(found.id, name)
    if json_output:
        emit({"job": found.id, "deleted": name})
    else:
        console(json_output).print(f"deleted {name} of {_called(found)}")


def _called(job: Job) -> str:
    return job.name or job.id


def _usual(runs: Path, job: Job, name: str) -> Path:
    """RUNS/<job>/<name>, beside it where that holds another job's checkpoint."""
    folders = (runs / (f"{_called(job)}.{number}" if number > 1 else _called(job)) / name for number in count(1))
    return next(folder for folder in folders if owner(folder, "checkpoint") in (None, "", job.id))


def _written(path: Path, json_output: bool) -> None:
    if json_output:
        emit({"path": str(path)})
    else:
        console(json_output).print(f"written: {path}")
