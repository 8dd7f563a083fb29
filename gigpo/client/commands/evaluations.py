"""`gigpo eval`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from gigpo.client.commands.options import JobName, Limit, Name
from gigpo.client.errors import FAILED, OK
from gigpo.client.follow import follow
from gigpo.client.models import Evaluation
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors
from gigpo.client.tables import evaluations_table
from services.contracts.states import JobState

app = typer.Typer(no_args_is_help=True, help="Measure policies on held-out tasks, as jobs of their own.")

EvaluationId = Annotated[str, typer.Argument(metavar="EVALUATION", help="An evaluation's id or name.")]
Checkpoint = Annotated[str | None, typer.Option("--checkpoint", help="Which policy; default: the newest.")]
Episodes = Annotated[int | None, typer.Option("--episodes", min=1, help="Default: as the job has it.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the panel of tasks; equal seeds compare.")]
Split = Annotated[
    str | None, typer.Option("--split", help="Split of the environment's tasks; default: the held-out one.")
]
Member = Annotated[str | None, typer.Option("--member", help="The only member of a mixture to measure; default: each.")]
Baselines = Annotated[
    bool, typer.Option("--baselines", help="Also: the task hidden, another task's sentence, random actions.")
]
Wait = Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for the result.")]
OfJob = Annotated[str | None, typer.Option("--job", metavar="JOB", help="Only those of this job's policies.")]


@app.command("run")
@says_errors
def run(
    job: JobName,
    checkpoint: Checkpoint = None,
    episodes: Episodes = None,
    seed: Seed = None,
    split: Split = None,
    member: Member = None,
    baselines: Baselines = False,
    name: Name = None,
    wait: Wait = True,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Measure a checkpoint of a job.

    gigpo eval run demo --episodes 1024 --seed 7 --baselines
    gigpo eval run demo --checkpoint b000040 --no-follow
    """
    words = console(json_output)
    with connected(runs, api) as client:
        found = client.evaluate(
            client.find(job).id,
            checkpoint=checkpoint,
            eval_episodes=episodes,
            eval_seed=seed,
            split=split,
            member=member,
            baselines=baselines,
            name=name,
        )
        words.print(f"evaluation {found.id} of {found.job_id}, checkpoint {found.checkpoint}")
        if wait:
            follow(client, client.job(found.id), words)
            found = client.evaluation(found.id)
    _show(found, json_output)
    raise typer.Exit(OK if not wait or found.state == JobState.SUCCEEDED else FAILED)


@app.command("list")
@says_errors
def list_evaluations(
    job: OfJob = None, limit: Limit = 20, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False
) -> None:
    """Evaluations, newest first."""
    with connected(runs, api) as client:
        of = client.find(job).id if job else None
        found = list(client.evaluation_jobs(job_id=of, limit=limit))
    if json_output:
        emit([one.model_dump() for one in found])
        return
    table = Table("id", "name", "state", "job", "checkpoint", "episodes", "seed", "success", box=None)
    for one in found:
        success = f"{one.result.success:.3f} ± {one.result.standard_error:.3f}" if one.result else "–"
        cells = [one.id, one.name or "–", one.state, one.job_id, one.checkpoint]
        table.add_row(*cells, f"{one.eval_episodes:,}", str(one.eval_seed), success)
    console(json_output).print(table)


@app.command("show")
@says_errors
def show(evaluation: EvaluationId, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """One evaluation with its results."""
    with connected(runs, api) as client:
        found = client.evaluation(client.find(evaluation).id)
    _show(found, json_output)


def _show(found: Evaluation, json_output: bool) -> None:
    if json_output:
        emit(found.model_dump())
        return
    words = console(json_output)
    results = [one for one in (found.result, *found.baselines.values()) if one is not None]
    if results:
        words.print(evaluations_table(results))
    if not results or found.error:
        words.print(f"{found.id}: {found.state}{f': {found.error}' if found.error else ''}")
