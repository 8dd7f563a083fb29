"""`gigpo jobs`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Column, Table

from gigpo.client.commands.options import Force, JobName, Limit, Name, ResultsFolder
from gigpo.client.commands.training import finish
from gigpo.client.completion import values_of
from gigpo.client.document import overrides
from gigpo.client.follow import event_line, follow
from gigpo.client.models import Job
from gigpo.client.own_files import require_writable
from gigpo.client.report import number_text
from gigpo.client.results import Destination, require_results_folder
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, following, says_errors
from gigpo.client.times import clock, unix_s

app = typer.Typer(no_args_is_help=True, help="Look at jobs and steer them. JOB is an id, or a name: the newest of it.")

State = Annotated[str | None, typer.Option("--state", help="Only jobs in this state, e.g. RUNNING.")]
OfName = Annotated[str | None, typer.Option("--name", help="Only jobs of this name.")]
OfEnvironment = Annotated[str | None, typer.Option("--environment", help="Only jobs in this environment.")]
Estimator = Annotated[str | None, typer.Option("--advantage_estimator", help="Only jobs with this estimator.")]
Kind = Annotated[str | None, typer.Option("--kind", help="training or evaluation.")]
Parent = Annotated[str | None, typer.Option("--parent", metavar="JOB", help="Its retries, forks and evaluations.")]
Tag = Annotated[str | None, typer.Option("--tag", help="Only jobs with this tag.")]
Archived = Annotated[
    str | None,
    typer.Option(
        "--archived",
        metavar="no|yes|any",
        help="Leave archived jobs out, show them alone, or show all; default: no.",
        autocompletion=values_of("archived", ("no", "yes", "any")),
    ),
]
Since = Annotated[str | None, typer.Option("--since", help="Created since then: 2h, 3d, or 2026-11-25T08:00.")]
Until = Annotated[str | None, typer.Option("--until", help="Created before then.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print each event as one line of JSON, as it comes.")]
FollowLogs = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the spec; may be repeated.")
]
CheckpointOf = Annotated[str | None, typer.Option("--checkpoint", help="Default: the newest.")]


@app.command("list")
@says_errors
def list_jobs(
    state: State = None,
    name: OfName = None,
    environment: OfEnvironment = None,
    estimator: Estimator = None,
    kind: Kind = None,
    parent: Parent = None,
    tag: Tag = None,
    archived: Archived = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 20,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Jobs, newest first.

    gigpo jobs list --state RUNNING
    gigpo jobs list --since 2d --environment grid --limit 100
    gigpo jobs list --tag baseline --archived any
    """
    with connected(runs, api) as client:
        found = list(
            client.jobs(
                limit=limit,
                state=state.upper() if state else None,
                name=name,
                environment=environment,
                advantage_estimator=estimator,
                kind=kind,
                parent_job=client.find(parent).id if parent else None,
                created_after=unix_s("--since", since),
                created_before=unix_s("--until", until),
                tag=tag,
                archived=archived,
            )
        )
    if json_output:
        emit([job.model_dump() for job in found])
        return
    columns = ("id", "name", "kind", "state", "phase", "environment", "estimator", "seed", "batch", "success")
    table = Table(*(Column(name, no_wrap=True) for name in columns), box=None)
    for job in found:
        table.add_row(*_cells(job))
    console(json_output).print(table)


def _cells(job: Job) -> list[str]:
    metrics = job.metrics or {}
    batch = metrics.get("batch")
    done = batch + 1 if isinstance(batch, int) else 0
    success = number_text(metrics.get("success"))
    cells = [job.id, job.name or "–", job.kind, job.state, job.phase or "–", job.environment, job.advantage_estimator]
    return [*cells, str(job.seed), f"{done}/{job.total_batches}", success]


@app.command("show")
@says_errors
def show(job: JobName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """One job: its state, its last figures, and with --json its resolved spec."""
    with connected(runs, api) as client:
        found = client.find(job)
    if json_output:
        emit(found.model_dump())
        return
    words = console(json_output)
    for name, value in found.model_dump(exclude={"spec", "metrics", "project_id", "origin"}).items():
        if value is not None and value is not False and value != []:
            shown = clock(value) if name.endswith("unix_s") else " ".join(value) if isinstance(value, list) else value
            words.print(f"{name.removesuffix('_unix_s'):>20}  {shown}")
    for name, value in (found.metrics or {}).items():
        words.print(f"{name:>20}  {number_text(value)}")


@app.command("logs")
@says_errors
def logs(
    job: JobName,
    follow_logs: FollowLogs = False,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: JsonLines = False,
) -> None:
    """A job's events, one line each: states, phases, batches, evaluations, checkpoints, warnings.

    gigpo jobs logs demo
    gigpo jobs logs demo --follow
    gigpo jobs logs demo --json | jq 'select(.kind == "warning")'
    """
    words = console(json_output=False)
    with connected(runs, api) as client:
        found, last = client.find(job), ""
        for event in client.events(found.id, follow=follow_logs):
            if json_output:
                emit(event.model_dump(), lines=True)
                continue
            line = event_line(event, found.total_batches)
            if line is not None and line != last:  # a phase tells its figures in a second event
                words.print(f"{clock(event.at_unix_s)}  {line}")
                last = line


@app.command("cancel")
@says_errors
def cancel(job: JobName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """End a job at its next step boundary; what it has trained so far stays in its checkpoints."""
    with connected(runs, api) as client:
        _noted("cancel", client.cancel(client.find(job).id), json_output)


@app.command("pause")
@says_errors
def pause(job: JobName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Finish the step, write a checkpoint, and wait for `gigpo jobs resume`."""
    with connected(runs, api) as client:
        _noted("pause", client.pause(client.find(job).id), json_output)


@app.command("resume")
@says_errors
def resume(job: JobName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Go on with a paused job."""
    with connected(runs, api) as client:
        _noted("resume", client.resume(client.find(job).id), json_output)


@app.command("retry")
@says_errors
def retry(job: JobName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Do a failed or cancelled job again, as a new one that goes on from its newest checkpoint."""
    with connected(runs, api) as client:
        _made(client.retry(client.find(job).id), json_output)


@app.command("fork")
@says_errors
def fork(
    job: JobName,
    checkpoint: CheckpointOf = None,
    changes: Set = None,
    name: Name = None,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """A new job whose policy begins as a checkpoint of this one, with a spec of its own.

    gigpo jobs fork demo --name gentler --set learning_rate=3e-4 --set total_batches=50
    gigpo jobs fork demo --checkpoint b000040 --set environment_kwargs='{"size": [5]}'
    """
    changed = overrides(changes or [])
    with connected(runs, api) as client:
        made = client.fork(client.find(job).id, checkpoint=checkpoint, overrides=changed, name=name)
    _made(made, json_output)


@app.command("follow")
@says_errors
def follow_job(
    job: JobName,
    output: ResultsFolder = None,
    force: Force = False,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Watch a job until it ends, then write its results, as `gigpo train` does."""
    words = console(json_output)
    with following(runs, api, words) as client:
        found = client.find(job)
        destination = Destination(runs, output, force)
        folder = destination.folder(found.name or found.id, found.id)
        require_results_folder(folder, found.id, force=force)
        require_writable(folder)
        ended = follow(client, found, words)
        status = finish(client, ended, destination, words, json_output=json_output)
    raise typer.Exit(status)


def _noted(verb: str, job: Job, json_output: bool) -> None:
    if json_output:
        emit(job.model_dump())
    else:
        console(json_output).print(f"{job.id}: {verb} noted, state {job.state}")


def _made(job: Job, json_output: bool) -> None:
    if json_output:
        emit(job.model_dump())
    else:
        console(json_output).print(f"job {job.id} from {job.parent_job}; `gigpo jobs follow {job.id}` watches it")
