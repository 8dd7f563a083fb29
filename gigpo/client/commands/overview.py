"""`gigpo status` and `gigpo logs`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from gigpo.client.commands import jobs
from gigpo.client.commands.options import JobName
from gigpo.client.errors import BadInput
from gigpo.client.models import Job, JsonObject
from gigpo.client.report import number_text
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors
from gigpo.client.stack import data_dir, running_stack
from services.contracts.plain_errors import one_of
from services.contracts.rest.catalogue import SystemView
from services.contracts.states import JobState

_AT_WORK = (JobState.RUNNING, JobState.QUEUED, JobState.PENDING, JobState.PAUSED)
_RECENT = 5
"""Ended jobs that are shown."""
_FORMAT = ("timestamp", "level", "event")
"""Keys of a log's line that stand in front."""

Lines = Annotated[int, typer.Option("--lines", "-n", min=1, help="Newest lines that are shown of a service.")]


def _complete_service(incomplete: str) -> list[str]:
    return [name for name in _logged(DEFAULT_RUNS) if name.startswith(incomplete)]


Service = Annotated[
    str | None,
    typer.Argument(
        metavar="SERVICE",
        help="Show the service's log of the job, such as trainer, rollout, inference; without it the job's events.",
        autocompletion=_complete_service,
    ),
]


@says_errors
def status(runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """An overview: the stack, its services, and the jobs that run, wait or have just ended."""
    with connected(runs, api) as client:
        health, system = client.health(), SystemView.model_validate(client.system(), extra="ignore")
        working = [job for state in _AT_WORK for job in client.jobs(state=state)]
        recent = [job for job in client.jobs(limit=_RECENT + len(working)) if job.state not in _AT_WORK][:_RECENT]
        url = client.url
    if json_output:
        found = {"api": url, "health": health, "services": [one.model_dump() for one in system.services]}
        emit({**found, "jobs": [job.model_dump() for job in (*working, *recent)]})
        return
    words, stack = console(json_output), None if api else running_stack(runs)
    words.print(f"stack     {_health(health)}, API {url}" + (f", process {stack.pid}, folder {runs}" if stack else ""))
    words.print(f"services  {_services(health, system)}")
    if not working and not recent:
        words.print("jobs      none yet; `gigpo train` starts one")
        return
    columns = ("jobs", "name", "state", "phase", "batch", "success")
    table = Table(*(Column(name, no_wrap=True) for name in columns), box=None)
    for job in (*working, *recent):
        table.add_row(*_cells(job))
    words.print(table)


def _health(health: JsonObject) -> str:
    checks: Any = health.get("checks") or {}
    wrong = [f"{name}: {said}" for name, said in checks.items() if said != "ok"]
    return "; ".join(wrong) if wrong else f"is {health.get('status')}"


def _services(health: JsonObject, system: SystemView) -> str:
    """The services that answer, with the number of instances where there are several."""
    checks: Any = health.get("checks") or {}
    counted = Counter(one.service for one in system.services)
    names = sorted({*counted, *(name for name, said in checks.items() if said == "ok")})
    return ", ".join(f"{name} ({counted[name]})" if counted[name] > 1 else name for name in names) or "none answers"


def _cells(job: Job) -> list[str]:
    metrics = job.metrics or {}
    batch = metrics.get("batch")
    done = batch + 1 if isinstance(batch, int) else 0
    success = number_text(metrics.get("success"))
    return [job.id, job.name or "–", job.state, job.phase or "–", f"{done}/{job.total_batches}", success]


@says_errors
def logs(
    job: JobName,
    service: Service = None,
    follow_logs: jobs.FollowLogs = False,
    lines: Lines = 200,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: jobs.JsonLines = False,
) -> None:
    """A job's history: its events, or the lines that one of the stack's services logged of it.

    gigpo logs demo
    gigpo logs demo trainer
    """
    if service is None:
        jobs.logs(job, follow_logs=follow_logs, runs=runs, api=api, json_output=json_output)
        return
    if api is not None:
        raise BadInput(f"SERVICE: the logs of services lie where the stack runs, not behind {api}; leave it out")
    if service not in (names := _logged(runs)):
        raise BadInput(f"SERVICE: {one_of(names, service) if names else f'no stack has run in {runs} yet'}")
    with connected(runs, api) as client:
        job_id = client.find(job).id
    log = data_dir(runs) / "logs" / f"{service}.log"
    found, words = list(_naming(job_id, log)), console(json_output)
    if not found:
        words.print(f"{service} has logged nothing that names the job; its whole log is {log}")
    for line in found[-lines:]:
        if json_output:
            emit(line, lines=True)
        else:
            words.print(_readable(line))


def _logged(runs: Path) -> list[str]:
    """Services whose log is in this folder."""
    return sorted(path.stem for path in (data_dir(runs) / "logs").glob("*.log"))


def _naming(job_id: str, log: Path) -> Iterator[JsonObject]:
    """The lines of a log that name the job."""
    for line in log.read_text(errors="replace").splitlines():
        if job_id in line:
            try:
                read = json.loads(line)
            except ValueError:
                read = None
            yield read if isinstance(read, dict) else {"event": line}


def _readable(line: JsonObject) -> str:
    front = [str(line[key]) for key in _FORMAT if key in line]
    return " ".join([*front, *(f"{key}={value}" for key, value in line.items() if key not in _FORMAT)])
