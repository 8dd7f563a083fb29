"""`gigpo train` and `gigpo warmstart`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gigpo.client.commands.diagnosing import diagnosis_line
from gigpo.client.commands.options import Force, ResultsFolder
from gigpo.client.completion import values_of
from gigpo.client.document import checked, read_document, submission, with_flags
from gigpo.client.dry_run import dry_run, show
from gigpo.client.errors import FAILED, OK, BadInput
from gigpo.client.flags import takes_job_flags
from gigpo.client.follow import follow
from gigpo.client.migration import TRAINERS, job_file_from
from gigpo.client.migration.translation import document as job_document
from gigpo.client.models import Job, JsonObject
from gigpo.client.own_files import require_writable
from gigpo.client.results import Destination, other_owner, require_results_folder, save_results
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, console, emit, platform_for, says_errors
from gigpo.client.synchronous import GigpoClient
from gigpo.client.tables import evaluations_table, summary_table
from services.contracts.states import JobState

File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="YAML job; without one the built-in default job (examples/default.yaml)."),
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The same as the argument.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="|".join(TRAINERS),
        autocompletion=values_of("from", TRAINERS),
        help="FILE is a shell script of this trainer, or - for stdin: print the job file that it means, train nothing. "
        "With --dry-run: check that job.",
    ),
]
Follow = Annotated[bool, typer.Option("--follow/--no-follow", help="Watch the job and write its results at its end.")]
DryRunOnly = Annotated[bool, typer.Option("--dry-run", help="Check and estimate; submit and start nothing.")]


@takes_job_flags
@says_errors
def train(
    file: File = None,
    config: Config = None,
    trainer: From = None,
    follow_job: Follow = True,
    dry_run_only: DryRunOnly = False,
    output: ResultsFolder = None,
    force: Force = False,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
    *,
    values: dict[str, str],
) -> None:
    """Train an agent: submit a job, watch it learn, and write its results to RUNS/<name or id>.

    Every key of the job file is a flag too, and a flag wins over the file:

        gigpo train --advantage_estimator gigpo --use_gym_env true --gigpo_step_advantage_weight 1.0

    gigpo train --dry-run my.yaml   checks, and estimates memory, disk, tokens and time, with a stack or without
    gigpo train my.yaml --name big --total_batches 500 --no-follow
    gigpo train --from ms-swift run.sh > my.yaml   a script of another trainer as a job file

    Without FILE the built-in default job runs, examples/default.yaml: a small policy learns to fetch and carry.

    Where RUNS/<name> holds results of an earlier job, they stay, and those of this one go to RUNS/<name>.2 and so on.
    A folder --output that holds another job's results, or anything else, is refused without --force, which replaces
    files of the same name and removes no other one.

    Without a running stack one is started, and stopped when the job has ended; with --no-follow it goes on until
    `gigpo jobs follow JOB` has seen the end, or `gigpo down`. Ctrl-C, or closing the terminal, leaves
    the job running: `gigpo jobs follow JOB` watches it again. Exit codes: 0 done, 1 the job failed or was cancelled,
    2 something you gave is wrong, 3 no API answers.
    """
    path = one_file(file, config)
    if trainer is not None and not dry_run_only:
        if values:
            raise BadInput(f"--{next(iter(values))}: --from prints a job file alone; give it with that file")
        print_job_file(trainer, path)
        return
    document = translated_document(trainer, path) if trainer else read_document(path, values)
    document = with_flags(document, values)
    if dry_run_only:
        show_dry_run(document, runs, api, json_output)
        return
    if path is None:
        console(json_output).print(
            "no job file is named: the default job runs; `gigpo init` writes a file to begin with"
        )
    destination = Destination(runs, output, force)
    submit_and_follow(document, destination, api, follow_job=follow_job, json_output=json_output)


@takes_job_flags
@says_errors
def warmstart(
    file: File = None,
    config: Config = None,
    output: ResultsFolder = None,
    force: Force = False,
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
    document = with_flags(read_document(one_file(file, config), values), {**values, "total_batches": "0"})
    if checked(document).model.warmstart is None:
        raise BadInput("model.warmstart: the job has none, so there is nothing to make")
    submit_and_follow(document, Destination(runs, output, force), api, follow_job=True, json_output=json_output)


def submit_and_follow(
    document: JsonObject, destination: Destination, api: str | None, *, follow_job: bool, json_output: bool
) -> None:
    """Submit the document's job to the API that is named, or up, or started for it, and watch it.

    Raises:
        BadInput: the results could not be written; before anything is started.
    """
    spec, words = checked(document), console(json_output)
    if follow_job:
        require_writable(destination.output or destination.runs)
    if follow_job and (destination.output or spec.name):
        folder = destination.folder(spec.name or "")
        require_results_folder(folder, force=destination.force)
        if other := other_owner(usual := destination.output or destination.runs / str(spec.name)):
            what = "will replace them" if destination.force else f"go to {folder}"
            words.print(f"{usual} holds results of {other}; those of this job {what}")
    with platform_for(spec, destination.runs, api, words) as client:
        job = client.submit(submission(spec))
        words.print(f"job {job.id} at {client.url}")
        for warning in job.warnings:
            words.print(f"warning: {warning}")
        if not follow_job:
            if api is None:
                words.print(
                    f"the stack goes on with it: `gigpo jobs follow {job.id}` watches it, writes its results and stops "
                    "a stack that was started for it; `gigpo down` stops the stack at once"
                )
            if json_output:
                emit(job.model_dump())
            return
        status = _watch(client, job, destination, words, json_output=json_output)
    raise typer.Exit(status)


def translated_document(trainer: str, script: Path | None) -> JsonObject:
    """Another trainer's script, as a job's document."""
    _, found = job_file_from(trainer, script)
    return job_document(found.settings)


def print_job_file(trainer: str, script: Path | None) -> None:
    """The job file of another trainer's script on stdout; what is left to settle on stderr."""
    text, found = job_file_from(trainer, script)
    sys.stdout.write(text)
    words = console(json_output=True)
    for sentence in found.todo:
        words.print(f"to settle: {sentence}")


def show_dry_run(document: JsonObject, runs: Path, api: str | None, json_output: bool) -> None:
    """The job's needs, and its settings that are allowed and seldom wanted."""
    found = dry_run(checked(document), runs, api)
    if json_output:
        emit(found.model_dump())
    else:
        show(found, console(json_output))


def _watch(client: GigpoClient, job: Job, destination: Destination, words: Console, *, json_output: bool) -> int:
    try:
        ended = follow(client, job, words)
    except KeyboardInterrupt:
        words.print(f"\nthe job goes on: `gigpo jobs follow {job.id}` watches it, `gigpo down` stops the stack")
        raise
    return finish(client, ended, destination, words, json_output=json_output)


def finish(client: GigpoClient, job: Job, destination: Destination, words: Console, *, json_output: bool) -> int:
    """Write the results of an ended job and say where. Returns the exit code."""
    folder = destination.folder(job.name or job.id, job.id)
    try:
        summary = save_results(client, job, folder, force=destination.force)
    except (BadInput, OSError):
        words.print(
            f"no results are written; `gigpo jobs follow {job.id} --output FOLDER` writes them to another folder"
        )
        raise
    if summary is not None:
        words.print(evaluations_table(summary.evaluations))
        words.print(summary_table(summary))
    if job.state != JobState.SUCCEEDED:
        words.print(f"the job {job.state.lower()}: {job.error or 'as you wished'}", style="red")
    if (found := diagnosis_line(client, job.id)) is not None:
        words.print(found)
    words.print(f"results: {folder}")
    if json_output:
        emit(job.model_dump(exclude={"spec"}) if summary is None else summary.model_dump(mode="json"))
    return OK if job.state == JobState.SUCCEEDED else FAILED


def one_file(file: Path | None, config: Path | None) -> Path | None:
    if file is not None and config is not None:
        raise BadInput(f"want one job file, got {file} and --config {config}")
    return file or config
