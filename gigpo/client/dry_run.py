"""Estimates a job before its submission: asks an API, or this installation when no API is running."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from gigpo.client.document import hub_models_allowed, installed_environments, require_model_folder, submission
from gigpo.client.errors import BadInput
from gigpo.client.models import DryRun
from gigpo.client.report import number_text
from gigpo.client.session import connected
from gigpo.client.stack import data_dir, running_stack
from services.contracts.job import JobSpec, SpecError, parse_spec

_OFFLINE = "services.api.jobs.offline"


def dry_run(spec: JobSpec, runs: Path, api: str | None) -> DryRun:
    """Check the job and estimate its needs; nothing is submitted or started.

    Asks the named API, or the stack that is up in `runs`, otherwise this installation. Where that is the client alone,
    only the spec is checked, and a warning says so.

    Raises:
        BadInput: the job cannot run.
        NoStack: the named API does not answer.
    """
    if api is not None or running_stack(runs) is not None:
        with connected(runs, api) as client:
            return client.dry_run(submission(spec))
    require_model_folder(spec, hub_models=hub_models_allowed())
    document = submission(spec)
    if not _whole_platform():
        said = "no API is running and only the client is installed here: nothing but the job file is checked"
        return DryRun(spec=spec.model_dump(mode="json"), warnings=[said])
    plan = import_module(_OFFLINE).offline_dry_run
    try:
        return DryRun.model_validate(plan(parse_spec(document), installed_environments(), data_dir(runs)))
    except SpecError as error:
        raise BadInput(str(error)) from error


def show(found: DryRun, words: Console) -> None:
    """Print `plan_lines`."""
    for line in plan_lines(found):
        words.print(line)


def plan_lines(found: DryRun) -> list[str]:
    """A line for each estimate, with how far it may be off, then one for each warning."""
    lines = []
    figures = {name: value for name, value in found.estimates.items() if name != "ranges" and value is not None}
    ranges = found.estimates.get("ranges")
    known: Mapping[str, Any] = ranges if isinstance(ranges, Mapping) else {}
    for name, value in figures.items():
        lines.append(f"{name:>25}  {number_text(value)}{_uncertainty(known.get(name))}")
    if known:
        basis = known["time_s"]["basis"] if "time_s" in known else "unknown, no earlier job here was like this one"
        lines.append(f"{'time':>25}  {basis}")
    return [*lines, *(f"warning: {warning}" for warning in found.warnings)]


def _uncertainty(one: Any) -> str:
    return f"  ({number_text(round(one['low']))} to {number_text(round(one['high']))})" if one else ""


def _whole_platform() -> bool:
    return all(find_spec(name) is not None for name in ("services.api", "sqlalchemy", "jsonschema"))
