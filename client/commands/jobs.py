"""`gigpo jobs`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from client.commands.training import finish
from client.follow import follow
from client.models.jobs import Job
from client.report import number_text
from client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors

app = typer.Typer(no_args_is_help=True, help="Look at jobs and steer them. JOB is an id, or a name: the newest of it.")

JobName = Annotated[str, typer.Argument(metavar="JOB", help="A job's id or name.")]
State = Annotated[str | None, typer.Option("--state", help="Only jobs in this state, e.g. RUNNING.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many.")]
Output = Annotated[Path | None, typer.Option("--output", help="Folder of the results; default: RUNS/<name or id>.")]


@app.command("list")
@says_errors
def list_jobs(
    state: State = None,
    limit: Limit = 20,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Jobs, newest first."""
    with connected(runs, api) as client:
        found = list(client.jobs(limit=limit, state=state.upper() if state else None))
    if json_output:
        emit([job.model_dump() for job in found])
        return
    columns = ("id", "name", "state", "phase", "environment", "estimator", "seed", "batch", "success")
    table = Table(*(Column(name, no_wrap=True) for name in columns), box=None)
    for job in found:
        table.add_row(*_cells(job))
    console(json_output).print(table)


def _cells(job: Job) -> list[str]:
    metrics = job.metrics or {}
    done = int(metrics["batch"]) + 1 if isinstance(metrics.get("batch"), int) else 0
    success = number_text(metrics.get("success"))
    cells = [job.id, job.name or "–", job.state, job.phase or "–", job.environment, job.advantage_estimator]
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
    for name, value in found.model_dump(exclude={"spec", "metrics"}).items():
        if value is not None:
            shown = time.strftime("%F %T", time.localtime(value)) if name.endswith("unix_s") else value
            words.print(f"{name.removesuffix('_unix_s'):>20}  {shown}", markup=False)
    for name, value in (found.metrics or {}).items():
        words.print(f"{name:>20}  {number_text(value)}", markup=False)


@app.command("cancel")
@says_errors
def cancel(job: JobName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """End a job at its next step boundary; what it has trained so far stays in its checkpoints."""
    _command(job, "cancel", runs, api, json_output)


@app.command("pause")
@says_errors
def pause(job: JobName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Finish the step, write a checkpoint, and wait for `gigpo jobs resume`."""
    _command(job, "pause", runs, api, json_output)


@app.command("resume")
@says_errors
def resume(job: JobName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Go on with a paused job."""
    _command(job, "resume", runs, api, json_output)


def _command(job: str, verb: str, runs: Path, api: str | None, json_output: bool) -> None:
    with connected(runs, api) as client:
        steer = {"cancel": client.cancel, "pause": client.pause, "resume": client.resume}
        found = steer[verb](client.find(job).id)
    if json_output:
        emit(found.model_dump())
    else:
        console(json_output).print(f"{found.id}: {verb} noted, state {found.state}")


@app.command("follow")
@says_errors
def follow_job(
    job: JobName,
    output: Output = None,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Watch a job until it ends, then write its results, as `gigpo train` does."""
    words = console(json_output)
    with connected(runs, api) as client:
        ended = follow(client, client.find(job), words)
        status = finish(client, ended, runs, output, words, json_output)
    raise typer.Exit(status)
