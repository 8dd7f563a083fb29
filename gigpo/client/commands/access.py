"""`gigpo keys` and `gigpo projects`."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.table import Table

from gigpo.client.commands.options import Yes, confirm
from gigpo.client.errors import BadInput
from gigpo.client.models import ApiKey, Project
from gigpo.client.report import number_text
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors
from gigpo.client.times import clock, duration_s

keys = typer.Typer(no_args_is_help=True, help="API keys. All of it wants a key with the scope admin.")
projects = typer.Typer(no_args_is_help=True, help="Projects: what one makes, the others don't see.")

KeyName = Annotated[str, typer.Argument(metavar="NAME", help="The purpose of the key.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="A key's id, as `gigpo keys list` shows it.")]
Scopes = Annotated[str, typer.Option("--scopes", help="Any of read (look), submit (change jobs), admin (everything).")]
InProject = Annotated[str | None, typer.Option("--project", help="Project of its jobs; default: default.")]
Expires = Annotated[
    str | None, typer.Option("--expires-in", help="Time until it expires, e.g. 12h or 30d; default: never.")
]
ProjectId = Annotated[str, typer.Argument(metavar="PROJECT", help="Small letters, digits and dashes.")]
MaxJobs = Annotated[str | None, typer.Option("--max-jobs", help="Jobs at a time, or `none`.")]
MaxSteps = Annotated[str | None, typer.Option("--max-steps", help="Training steps over all its jobs, or `none`.")]
MaxBytes = Annotated[str | None, typer.Option("--max-bytes", help="Files of all its jobs, or `none`.")]


@keys.command("create")
@says_errors
def create_key(
    name: KeyName,
    scopes: Scopes = "read,submit",
    project: InProject = None,
    expires_in: Expires = None,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Make a key and print it, this once: nobody can read it again.

    gigpo keys create "nightly runs" --scopes read,submit --project robots --expires-in 90d
    export GIGPO_API_KEY=$(gigpo keys create laptop)
    """
    expires = None if expires_in is None else time.time() + _seconds(expires_in)
    with connected(runs, api) as client:
        made = client.create_key(
            name, scopes=[part.strip() for part in scopes.split(",")], project=project, expires_unix_s=expires
        )
    if json_output:
        emit(made.model_dump())
        return
    console(json_output=True).print(f"key {made.id} of project {made.project}, scopes {', '.join(made.scopes)}:")
    typer.echo(made.key)


@keys.command("list")
@says_errors
def list_keys(runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Every key, the revoked ones too; never the keys themselves."""
    with connected(runs, api) as client:
        found = client.keys()
    if json_output:
        emit([key.model_dump() for key in found])
        return
    table = Table("id", "name", "begins", "project", "scopes", "state", "last used", box=None)
    for key in found:
        used = clock(key.last_used_unix_s) if key.last_used_unix_s else "never"
        table.add_row(key.id, key.name, key.prefix, key.project, " ".join(key.scopes), _state(key), used)
    console(json_output).print(table)


@keys.command("revoke")
@says_errors
def revoke_key(
    key_id: KeyId, yes: Yes = False, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False
) -> None:
    """Let a key open nothing any more."""
    confirm(f"revoke key {key_id} for good?", yes)
    with connected(runs, api) as client:
        client.revoke_key(key_id)
    if json_output:
        emit({"revoked": key_id})
    else:
        console(json_output).print(f"revoked {key_id}")


@projects.command("list")
@says_errors
def list_projects(runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Every project, what it uses and may use."""
    with connected(runs, api) as client:
        found = client.projects()
    _show_projects(found, [project.model_dump() for project in found], json_output)


@projects.command("create")
@says_errors
def create_project(
    project: ProjectId,
    max_jobs: MaxJobs = None,
    max_steps: MaxSteps = None,
    max_bytes: MaxBytes = None,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Make a project; quotas that are not named don't bind.

    gigpo projects create robots --max-jobs 4 --max-bytes 100000000000
    """
    quotas = _quotas(max_jobs, max_steps, max_bytes)
    with connected(runs, api) as client:
        made = client.create_project(project, quotas)
    _show_projects([made], made.model_dump(), json_output)


@projects.command("show")
@says_errors
def show_project(project: ProjectId, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """One project."""
    with connected(runs, api) as client:
        found = client.project(project)
    _show_projects([found], found.model_dump(), json_output)


@projects.command("update")
@says_errors
def update_project(
    project: ProjectId,
    max_jobs: MaxJobs = None,
    max_steps: MaxSteps = None,
    max_bytes: MaxBytes = None,
    runs: Runs = DEFAULT_RUNS,
    api: ApiUrl = None,
    json_output: Json = False,
) -> None:
    """Change the quotas that are named; `none` lifts one."""
    quotas = _quotas(max_jobs, max_steps, max_bytes)
    if not quotas:
        raise BadInput("want a quota to change: --max-jobs, --max-steps or --max-bytes")
    with connected(runs, api) as client:
        changed = client.set_quotas(project, quotas)
    _show_projects([changed], changed.model_dump(), json_output)


def _show_projects(found: list[Project], document: object, json_output: bool) -> None:
    if json_output:
        emit(document)
        return
    table = Table("project", "jobs", "steps", "storage", box=None)
    for project in found:
        used, most = project.usage, project.quotas
        table.add_row(
            project.id,
            _used(used.concurrent_jobs, most.max_concurrent_jobs),
            _used(used.total_steps, most.max_total_steps),
            _used(used.storage_bytes, most.max_storage_bytes),
        )
    console(json_output).print(table)


def _used(used: int, most: int | None) -> str:
    return f"{used:,} of {number_text(most)}" if most is not None else f"{used:,}"


def _state(key: ApiKey) -> str:
    if key.revoked_unix_s is not None:
        return "revoked"
    if key.expires_unix_s is None:
        return "valid"
    return "expired" if key.expires_unix_s < time.time() else f"until {clock(key.expires_unix_s)}"


def _seconds(text: str) -> float:
    seconds = duration_s(text)
    if seconds is None:
        raise BadInput(f"--expires-in: want a duration such as 12h or 30d, got {text!r}")
    return seconds


def _quotas(max_jobs: str | None, max_steps: str | None, max_bytes: str | None) -> dict[str, int | None]:
    given = {
        "max_concurrent_jobs": ("--max-jobs", max_jobs),
        "max_total_steps": ("--max-steps", max_steps),
        "max_storage_bytes": ("--max-bytes", max_bytes),
    }
    return {field: _most(option, text) for field, (option, text) in given.items() if text is not None}


def _most(option: str, text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal():
        raise BadInput(f"{option}: want a whole number >= 0 or none, got {text!r}")
    return int(text)
