"""`gigpo jobs tag`, `note`, `rename`, `archive`, `unarchive` and `delete`: how a list of jobs is kept in order."""

from __future__ import annotations

from typing import Annotated

import typer

from gigpo.client.commands.options import JobName, Yes, confirm
from gigpo.client.completion import complete_archived_job
from gigpo.client.errors import BadInput
from gigpo.client.models import Job, JobRemains
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors

app = typer.Typer()

Tags = Annotated[list[str], typer.Argument(metavar="TAG", help="Small letters, digits and . _ - : / = +")]
Remove = Annotated[bool, typer.Option("--remove", help="Take these tags away.")]
Text = Annotated[str, typer.Argument(metavar="TEXT", help="Text that replaces the note before; '' takes it away.")]
NewName = Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits and . _ -")]
ArchivedJob = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="A job's id, or a name: the newest archived job of it.",
        autocompletion=complete_archived_job,
    ),
]


@app.command("tag")
@says_errors
def tag(
    job: JobName,
    tags: Tags,
    remove: Remove = False,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Put tags on a job, beside those that it has, or take some away; `gigpo jobs list --tag` finds it by them.

    gigpo jobs tag demo baseline seed:0
    gigpo jobs tag demo baseline --remove
    """
    with connected(runs, api) as client:
        found = client.find(job)
        wanted = _without(found, tags) if remove else list(dict.fromkeys([*found.tags, *tags]))
        changed = client.change_job(found.id, tags=wanted)
    _changed(changed, f"tags {' '.join(changed.tags)}" if changed.tags else "no tags", json_output)


@app.command("note")
@says_errors
def note(job: JobName, text: Text, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Write down something about a job; `gigpo jobs show` shows it.

    gigpo jobs note demo "the learning rate was too high"
    """
    with connected(runs, api) as client:
        changed = client.change_job(client.find(job).id, notes=text)
    _changed(changed, "note written" if changed.notes else "no note", json_output)


@app.command("rename")
@says_errors
def rename(
    job: JobName, name: NewName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False
) -> None:
    """Give a job another name; results that bear the old one keep it."""
    with connected(runs, api) as client:
        changed = client.change_job(client.find(job).id, name=name)
    _changed(changed, f"name {changed.name}", json_output)


@app.command("archive")
@says_errors
def archive(job: JobName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Leave an ended job out of lists; it keeps everything, and `gigpo jobs list --archived yes` shows it."""
    with connected(runs, api) as client:
        changed = client.change_job(client.find(job).id, archived=True)
    _changed(changed, "archived", json_output)


@app.command("unarchive")
@says_errors
def unarchive(job: ArchivedJob, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Show an archived job in lists again."""
    with connected(runs, api) as client:
        changed = client.change_job(client.find(job, archived_first=True).id, archived=False)
    _changed(changed, "no longer archived", json_output)


@app.command("delete")
@says_errors
def delete(
    job: JobName, yes: Yes = False, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False
) -> None:
    """Delete an ended job for good, with its events, rollouts and checkpoints; says before what would go.

    Jobs that were made from it hold files of their own and stay. So do downloads, and files in the job's folder that
    the platform did not write.
    """
    words = console(json_output)
    with connected(runs, api) as client:
        found = client.find(job)
        if not found.ended:
            raise BadInput(
                f"cannot delete job {found.id}: want a job that has ended, got state {found.state}; "
                f"`gigpo jobs cancel {found.id}` ends it"
            )
        remains = client.remains(found.id)
        if not yes:
            words.print("\n".join(_would_go(remains)))
        confirm(f"delete job {_called(found)}, {found.state}, for good?", yes)
        gone = client.delete_job(found.id) or remains
    if json_output:
        emit(gone.model_dump())
    else:
        words.print(f"deleted job {_called(found)}: {gone.events:,} events, {_megabytes(gone)}")


def _without(job: Job, tags: list[str]) -> list[str]:
    """The job's tags but these. Raises BadInput: it has no such tag."""
    if lacking := [one for one in tags if one not in job.tags]:
        has = ", ".join(job.tags) or "none"
        raise BadInput(f"TAG: want tags that job {job.id} has ({has}), got {', '.join(lacking)}")
    return [one for one in job.tags if one not in tags]


def _would_go(remains: JobRemains) -> list[str]:
    files = f": {', '.join(remains.files)}" if remains.files else ""
    lines = [f"would go: {remains.events:,} events, and {_megabytes(remains)} in {remains.folder}{files}"]
    return [*lines, f"would stay in {remains.folder}: {', '.join(remains.kept)}"] if remains.kept else lines


def _megabytes(remains: JobRemains) -> str:
    return f"{remains.size_bytes / 1e6:,.1f} MB"


def _called(job: Job) -> str:
    return f"{job.name} ({job.id})" if job.name else job.id


def _changed(job: Job, said: str, json_output: bool) -> None:
    if json_output:
        emit(job.model_dump())
    else:
        console(json_output).print(f"{job.id}: {said}")
