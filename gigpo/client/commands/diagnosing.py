"""`gigpo diagnose`."""

from __future__ import annotations

from rich.console import Console

from gigpo.client.commands.options import JobName
from gigpo.client.errors import GigpoError
from gigpo.client.models import Diagnosis, Finding
from gigpo.client.report import number_text
from gigpo.client.session import DEFAULT_RUNS, ApiUrl, Json, Runs, connected, console, emit, says_errors
from gigpo.client.synchronous import GigpoClient

LONGEST_TEXT = 300
"""Characters of a figure that is a text; --json has all of it."""


@says_errors
def diagnose(job: JobName, runs: Runs = DEFAULT_RUNS, api: ApiUrl = None, json_output: Json = False) -> None:
    """Findings that keep a job from learning, while it runs or afterwards, with their figures and the remedy.

    It looks for equal groups, anchors that hold a counter, invalid replies, cut prompts, a lost entropy, a collapse,
    stale samples and more. docs/insight.md says how to read each finding.

    gigpo diagnose demo
    gigpo diagnose demo --json
    """
    with connected(runs, api) as client:
        found = client.diagnosis(client.find(job).id)
    if json_output:
        emit(found.model_dump())
        return
    _print(found, console(json_output))


def diagnosis_line(client: GigpoClient, job_id: str) -> str | None:
    """The findings of a job in one line; None: there are none, or the API cannot say."""
    try:
        found = client.diagnosis(job_id).findings
    except GigpoError:
        return None
    if not found:
        return None
    titles = ", ".join(one.title[:1].lower() + one.title[1:] for one in found)
    return f"diagnosis: {titles}; `gigpo diagnose {job_id}` says what to do"


def _print(found: Diagnosis, words: Console) -> None:
    looked = f"{found.batches} batches and {found.groups} stored groups"
    if not found.findings:
        words.print(f"nothing found: {len(found.checked)} checks on {looked}")
        return
    words.print(f"{len(found.findings)} of {len(found.checked)} checks found something in {looked}")
    for one in found.findings:
        _print_finding(one, words)


def _print_finding(finding: Finding, words: Console) -> None:
    words.print(f"\n{finding.severity}: {finding.title} ({finding.code})", style="bold")
    for figure in finding.figures:
        text = number_text(figure.value)
        shown = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
        words.print(f"  {figure.name}: {shown}  ({figure.about})")
    words.print(f"  {finding.meaning}")
    words.print(f"  What to do: {finding.advice}")
