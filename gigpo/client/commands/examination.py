"""`gigpo doctor` and `gigpo version`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gigpo.client.doctor import installation, machine, services, training
from gigpo.client.doctor.finding import Finding
from gigpo.client.errors import FAILED, OK
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, api_key, console, emit, says_errors
from gigpo.client.stack import running_stack

_COLORS = {"ok": "green", "warning": "yellow", "bad": "red"}
DEFAULT_PORT = 8400


@says_errors
def doctor(runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Look whether this machine and installation can run jobs, and say what to do where they can't.

    Looks at Python, package versions, torch and the GPU, vLLM's environment, Redis, the API's port, disk, memory, the
    models that can be trained, and the health of the API that is up. Exit code 1: something is bad.
    """
    words, findings = console(json_output), list[Finding]()
    for finding in _findings(runs, api):
        findings.append(finding)
        _say(words, finding)
    if json_output:
        emit([finding.model_dump() for finding in findings])
    raise typer.Exit(FAILED if any(finding.state == "bad" for finding in findings) else OK)


def _findings(runs: Path, api: str | None) -> Iterator[Finding]:
    stack = running_stack(runs)
    yield installation.python()
    yield installation.packages()
    if installation.whole_platform() and api is None:
        yield installation.torch()
        yield installation.vllm()
        yield services.redis(os.environ.get("STACK_REDIS_URL", ""))
        wanted = _port_asked_for()
        own_url = stack.api_url if stack else None
        yield machine.port(wanted or DEFAULT_PORT, own_url, asked_for=wanted is not None)
        yield machine.memory()
        yield training.training(runs)
    yield machine.disk(runs)
    yield from services.api(api or (stack.api_url if stack else None), api_key())


def _say(words: Console, finding: Finding) -> None:
    words.print(f"{finding.state:<7}", end="", style=_COLORS[finding.state])
    words.print(f" {finding.name:<10} ", end="")
    words.print(finding.what)
    if finding.todo:
        words.print(f"{'':19}-> {finding.todo}")


def _port_asked_for() -> int | None:
    text = os.environ.get("STACK_API_PORT", "")
    return int(text) if text.isdecimal() and int(text) else None


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"gigpo {installed_version(installation.PACKAGE)}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
]


def takes_version(version: Version = False) -> None:  # what it does is done by its option's callback
    pass


@says_errors
def version(json_output: Json = False) -> None:
    """Versions of this installation."""
    found = {
        "gigpo": installed_version(installation.PACKAGE),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "services": installation.whole_platform(),
    }
    if json_output:
        emit(found)
    else:
        what = "whole platform" if found["services"] else "client alone"
        typer.echo(f"gigpo {found['gigpo']} ({what}), Python {found['python']}, {found['platform']}")
