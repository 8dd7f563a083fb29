"""`gigpo train` and `gigpo warmstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from client.document import checked, read_document, require_model_folder, submission, with_flags
from client.errors import FAILED, OK, BadInput
from client.flags import takes_job_flags
from client.follow import follow
from client.models.jobs import ENDED, Job
from client.results import results_folder, save_results
from client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, api_key, console, emit, says_errors
from client.stack import RunningStack, running_stack, start_stack, stop_stack
from client.synchronous import GigpoClient
from client.tables import evaluations_table, summary_table

File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="YAML job; without one the built-in default job (examples/default.yaml)."),
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The same as the argument.")]
Follow = Annotated[bool, typer.Option("--follow/--no-follow", help="Watch the job and write its results at its end.")]
Output = Annotated[Path | None, typer.Option("--output", help="Folder of the results; default: RUNS/<name or id>.")]


@takes_job_flags
@says_errors
def train(
    file: File = None,
    config: Config = None,
    follow_job: Follow = True,
    output: Output = None,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
    *,
    values: dict[str, str],
) -> None:
    """Train an agent: submit a job, watch it learn, and write its results to RUNS/<name or id>.

    Every key of the job file is a flag too, and a flag wins over the file:

        gigpo train --advantage_estimator gigpo --use_gym_env true --gigpo_step_advantage_weight 1.0

    Without a running stack one is started, and stopped when the job has ended. Ctrl-C, or closing the terminal, leaves
    the job running: `gigpo jobs follow JOB` watches it again. Exit codes: 0 done, 1 the job failed or was cancelled,
    2 something you gave is wrong, 3 no API answers.
    """
    document = with_flags(read_document(one_file(file, config)), values)
    submit_and_follow(document, runs, api, output, follow_job=follow_job, json_output=json_output)


@takes_job_flags
@says_errors
def warmstart(
    file: File = None,
    config: Config = None,
    output: Output = None,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
    *,
    values: dict[str, str],
) -> None:
    """Make the policy that training starts from, and stop there.

    The new policy learns from random admissible actions how a reply looks, and nothing about any task; the job fails
    when more than warmstart_max_invalid of its actions are invalid on fresh tasks. The checkpoint is a folder in
    Hugging Face format, and `gigpo train --model FOLDER` starts from it.
    """
    document = with_flags(read_document(one_file(file, config)), {**values, "total_batches": "0"})
    if checked(document).model.warmstart is None:
        raise BadInput("model.warmstart: the job has none, so there is nothing to make")
    submit_and_follow(document, runs, api, output, follow_job=True, json_output=json_output)


def submit_and_follow(
    document: dict[str, Any],
    runs: Path,
    api: str | None,
    output: Path | None,
    *,
    follow_job: bool,
    json_output: bool,
) -> None:
    """Submit the document's job; start a stack when the folder has none, and stop it when no job needs it any more."""
    spec, words = checked(document), console(json_output)
    started: RunningStack | None = None
    if api is None:
        require_model_folder(spec)
        stack = running_stack(runs)
        if stack is None:
            words.print(f"no stack is up in {runs}: starting one, which takes some seconds")
            stack = started = start_stack(runs)
        api = stack.api_url
    with GigpoClient(api, api_key()) as client:
        try:
            job = client.submit(submission(spec))
            words.print(f"job {job.id} at {api}")
            if not follow_job:
                if json_output:
                    emit(job.model_dump())
                return
            status = _watch(client, job, runs, output, words, json_output)
        finally:
            if started is not None and not has_work(client):
                words.print("stopping the stack that was started for this job")
                stop_stack(runs, started)
    raise typer.Exit(status)


def _watch(client: GigpoClient, job: Job, runs: Path, output: Path | None, words: Console, json_output: bool) -> int:
    try:
        ended = follow(client, job, words)
    except KeyboardInterrupt:
        words.print(f"\nthe job goes on: `gigpo jobs follow {job.id}` watches it, `gigpo down` stops the stack")
        raise
    return finish(client, ended, runs, output, words, json_output)


def finish(client: GigpoClient, job: Job, runs: Path, output: Path | None, words: Console, json_output: bool) -> int:
    """Write the results of an ended job and say where. Returns the exit code."""
    folder = results_folder(runs, job, output)
    summary = save_results(client, job, folder)
    if summary is not None:
        words.print(evaluations_table(summary["evaluations"]))
        words.print(summary_table(summary))
    if job.state != "SUCCEEDED":
        words.print(f"the job {job.state.lower()}: {job.error or 'as you wished'}", markup=False, style="red")
    words.print(f"results: {folder}")
    if json_output:
        emit(summary or job.model_dump(exclude={"spec"}))
    return OK if job.state == "SUCCEEDED" else FAILED


def has_work(client: GigpoClient) -> bool:
    """Whether a job is left that the stack works on, or would when it runs."""
    return any(job.state not in ENDED | {"PAUSED"} for job in client.jobs(limit=200))


def one_file(file: Path | None, config: Path | None) -> Path | None:
    if file is not None and config is not None:
        raise BadInput(f"want one job file, got {file} and --config {config}")
    return file or config
