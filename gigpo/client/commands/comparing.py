"""`gigpo compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console

from gigpo.client.budget import Result, Unit, smallest_spent
from gigpo.client.commands.options import Force
from gigpo.client.commands.training import Config, DryRunOnly, File, one_file
from gigpo.client.compare import (
    Cell,
    comparison_cells,
    comparison_rows,
    contrasts,
    earlier_job,
    read_result,
    unmeasured,
)
from gigpo.client.comparison_report import comparison_html, comparison_png, notes, point, rows_csv, rows_json
from gigpo.client.document import checked, read_document, with_flags
from gigpo.client.dry_run import dry_run, plan_lines
from gigpo.client.errors import BadInput, GigpoError
from gigpo.client.flags import takes_job_flags
from gigpo.client.follow import follow
from gigpo.client.models import Job, JsonObject
from gigpo.client.own_files import filling, require_own, require_writable
from gigpo.client.results import Destination, require_results_folder, save_results
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, console, emit, platform_for, says_errors
from gigpo.client.synchronous import GigpoClient
from gigpo.client.tables import comparison_table
from services.contracts.job import Algorithm
from services.contracts.states import RETRIED, JobState

Estimators = Annotated[
    str, typer.Option("--estimators", help="Comma-separated; the last one is set against the others.")
]
Seeds = Annotated[str, typer.Option("--seeds", help="Comma-separated; at least two give confidence intervals.")]
Threshold = Annotated[float, typer.Option("--threshold", min=0, max=1, help="Success whose first batch is reported.")]
Equal = Annotated[
    Unit | None,
    typer.Option("--equal", help="Compare where all jobs have spent the same; without it after equally many batches."),
]

CHOSEN_HERE = ("advantage_estimator", "seed")


class JobsFailed(GigpoError):
    """Some jobs of a comparison did not succeed; the message names them."""


@takes_job_flags
@says_errors
def compare(
    file: File = None,
    config: Config = None,
    estimators: Estimators = "grpo,rloo,gigpo",
    seeds: Seeds = "0,1,2,3,4",
    threshold: Threshold = 0.8,
    equal: Equal = None,
    dry_run_only: DryRunOnly = False,
    force: Force = False,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
    *,
    values: dict[str, str],
) -> None:
    """Set estimators side by side: one job for each estimator and seed, everything else equal.

    Held-out success is set against each other task by task and seed by seed, with a 95 % interval; one is ahead only
    where that leaves 0 out, otherwise it says how many further seeds would settle it. With --equal the budget is what
    the cheapest job spent in all, and --eval_every says how near to it the others are measured.

    Writes comparison.json, .csv, .png and .html to RUNS/<name>, and each job's results to a folder in it. Started
    again it goes on with what is missing. --name names the comparison (default: compare). A folder with results of
    another spec, or with anything else, is refused without --force, which replaces files of the same name and removes
    no other one. Ctrl-C leaves its jobs running.
    """
    for name in CHOSEN_HERE:
        if name in values:
            raise BadInput(f"--{name}: a comparison chooses it; use --estimators and --seeds")
    names, numbers = _estimators(estimators), _seeds(seeds)
    document = with_flags(read_document(one_file(file, config), values), values)
    title = str(values.get("name", "compare"))
    cells = comparison_cells(document, title, names, numbers)
    _check_measured(cells[0], equal)
    words, folder = console(json_output), runs / title
    destination = Destination(runs, folder, force)
    require_own(folder, "comparison", force=force)
    require_writable(folder)
    missing = [cell for cell in cells if read_result(folder / cell.name, cell) is None]
    for cell in missing:
        require_results_folder(folder / cell.name, *_replaced(folder, cell, force=force), force=force)
    words.print(f"{len(cells)} jobs, {len(cells) - len(missing)} of them done before")
    if dry_run_only:
        _show_dry_run(cells, missing, destination, api, words, json_output=json_output)
        return
    failed = _run_missing(missing, destination, api, words) if missing else []
    results = [one for cell in cells if (one := read_result(folder / cell.name, cell)) is not None]
    report = write_comparison(destination, title, results, names, threshold, words, equal)
    if json_output:
        emit(report)
    if failed:
        raise JobsFailed(f"{len(failed)} of {len(cells)} jobs did not succeed: {', '.join(failed)}")


def _show_dry_run(
    cells: Sequence[Cell],
    missing: Sequence[Cell],
    destination: Destination,
    api: str | None,
    words: Console,
    *,
    json_output: bool,
) -> None:
    """Check a job of each estimator and show what one needs; seeds change nothing about it."""
    firsts = {cell.estimator: cell for cell in reversed(cells)}
    found = {name: dry_run(checked(cell.spec), destination.runs, api) for name, cell in reversed(firsts.items())}
    if json_output:
        each = {name: one.model_dump() for name, one in found.items()}
        emit({"jobs": len(cells), "to_run": len(missing), "each": each})
        return
    said: set[str] = set()
    for name, one in found.items():
        words.print(f"one job of {name}:" if not said else f"{name}, where it differs:")
        lines = plan_lines(one)
        for line in lines:
            if line not in said:
                words.print(line)
        said.update(lines)
    words.print(f"{len(missing)} such jobs run one after another")


def _run_missing(cells: Sequence[Cell], destination: Destination, api: str | None, words: Console) -> list[str]:
    """Run the cells' jobs and write their results. Returns the names of those that did not succeed."""
    with platform_for(checked(cells[0].spec), destination.runs, api, words) as client:
        jobs = [(cell, _submitted(client, cell)) for cell in cells]
        try:
            return [cell.name for cell, job in jobs if not _finished(client, cell, job, destination, words)]
        except KeyboardInterrupt:
            words.print("\nits jobs go on: the same `gigpo compare` goes on with them, `gigpo down` stops the stack")
            raise


def _submitted(client: GigpoClient, cell: Cell) -> Job:
    """The cell's job: an earlier call's when that did not fail, otherwise a new one."""
    attempt = 0
    while True:
        key = f"compare:{cell.name}:{cell.sha[:32]}:{attempt}"
        job = client.job(client.submit(cell.spec, key=key).id)
        if job.state not in RETRIED:
            return job
        attempt += 1


def _finished(client: GigpoClient, cell: Cell, job: Job, destination: Destination, words: Console) -> bool:
    words.print(f"{cell.name}: job {job.id}")
    ended = follow(client, job, words)
    folder = destination.folder("")
    earlier = _replaced(folder, cell, force=destination.force)
    stamp = {"cell.json": json.dumps({"sha": cell.sha, "job": job.id}) + "\n"}
    save_results(client, ended, folder / cell.name, force=destination.force, replaced=earlier, more=stamp)
    return ended.state == JobState.SUCCEEDED


def _replaced(folder: Path, cell: Cell, *, force: bool) -> tuple[str, ...]:
    """The earlier job whose results the cell's take the place of; "" where that is not noted."""
    earlier = None if force else earlier_job(folder / cell.name, cell)
    return () if earlier is None else (earlier, "")


def write_comparison(
    destination: Destination,
    title: str,
    results: Sequence[Result],
    estimators: Sequence[str],
    threshold: float,
    words: Console,
    equal: Unit | None = None,
) -> JsonObject:
    """Write the comparison's files, show its table, and return what comparison.json holds."""
    budget = None if equal is None else smallest_spent(results, equal)
    rows = comparison_rows(results, estimators, threshold, budget)
    paired = contrasts(results, estimators, budget)
    png, document = comparison_png(results, rows, threshold), rows_json(rows, paired, budget)
    folder = destination.folder(title)
    with filling(folder, "comparison", force=destination.force) as arriving:
        (arriving / "comparison.json").write_text(json.dumps(document, indent=2) + "\n")
        (arriving / "comparison.csv").write_text(rows_csv(rows, threshold))
        (arriving / "comparison.png").write_bytes(png)
        (arriving / "comparison.html").write_text(comparison_html(title, rows, paired, threshold, png, budget))
    words.print(comparison_table(rows, threshold))
    for note in notes(rows):
        words.print(note)
    words.print(f"held-out success {point(budget)}")
    if missing := unmeasured(results, budget):
        words.print(f"left out, not measured near there: {', '.join(missing)}; a smaller --eval_every measures nearer")
    for one in paired:
        words.print(str(one))
    words.print(f"results: {folder}")
    return document


def _check_measured(cell: Cell, equal: Unit | None) -> None:
    """Require evaluations during training at an equal budget, where most jobs are in the middle of their training."""
    every = checked(cell.spec).evaluation.eval_every
    if equal is not None and not every:
        raise BadInput(
            f"--equal {equal}: want --eval_every above 0, best a tenth of total_batches or less, got {every}"
        )


def _estimators(text: str) -> list[str]:
    known = get_args(Algorithm.model_fields["advantage_estimator"].annotation)
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise BadInput(f"--estimators: want some of {', '.join(known)}, got {text!r}")
    return names


def _seeds(text: str) -> list[int]:
    try:
        seeds = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise BadInput(f"--seeds: want numbers such as 0,1,2, got {text!r}") from None
    if min(seeds) < 0:
        raise BadInput(f"--seeds: want numbers >= 0, got {text!r}")
    return seeds
