"""Follows a job until it ends: a progress bar with live figures on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from gigpo.client.errors import GigpoError
from gigpo.client.models import Event, Job
from gigpo.client.synchronous import GigpoClient
from services.contracts.events import (
    Alarmed,
    BatchTrained,
    CheckpointSaved,
    Evaluated,
    Kind,
    PhaseBegan,
    StateReached,
    Warned,
    read,
)
from services.contracts.states import JobState
from services.contracts.summary import EvaluationResult
from services.presentation.pace import Pace, duration, phase_line, phase_words, progress_words

WAITING = (JobState.PENDING, JobState.QUEUED)
_SHOWN = 3
"""Running jobs that are named."""
FIGURES: dict[str, tuple[str, str]] = {
    "success": ("success", ".2f"),
    "return_mean": ("return", ".2f"),
    "episode_advantage_share": ("A^E", ".0%"),
    "step_advantage_share": ("A^S", ".0%"),
    "tokens_per_s": ("tokens/s", ",.0f"),
    "env_steps_per_s": ("steps/s", ",.0f"),
}
"""Metric -> its word and format in the live line."""


def figures(metrics: Mapping[str, object]) -> str:
    """The live line's figures, e.g. `success 0.41  return 0.35  A^E 62%`; those that are missing are left out."""
    metrics = {**metrics, "env_steps_per_s": env_steps_per_s(metrics)}
    shown = [
        f"{word} {metrics[name]:{form}}"
        for name, (word, form) in FIGURES.items()
        if isinstance(metrics.get(name), int | float)
    ]
    return "  ".join(shown)


def env_steps_per_s(metrics: Mapping[str, object]) -> float | None:
    """Environment steps of a batch over its wall time; None where a part of that is not known."""
    parts = [metrics.get(name) for name in ("wait_s", "train_s", "publish_s")]
    known = [part for part in parts if isinstance(part, int | float)]
    steps = metrics.get("env_steps")
    if len(known) < len(parts) or not isinstance(steps, int) or sum(known) <= 0:
        return None
    return steps / sum(known)


def evaluation_line(one: EvaluationResult) -> str:
    """One evaluation as a sentence; where no episode is won the return says more, as with a reward of one's own."""
    crashed = f", {one.crashed} of them crashed their environment" if one.crashed else ""
    success = f"success {one.success:.3f} ± {one.standard_error:.3f}"
    reward = "" if one.success else f", return {one.return_mean:.3f}"
    panel = f" of panel {one.panel}" if one.panel else ""
    return f"evaluation {one.label}: {success}{reward} on {one.episodes} episodes{panel}{crashed}"


def follow(client: GigpoClient, job: Job, console: Console) -> Job:
    """Show the job until it has ended; returns it as it is then."""
    if job.ended:
        return job
    if (line := waiting_line(client, job)) is not None:
        console.print(line)
    show = _follow_live if console.is_terminal else _follow_plain
    show(client, job, console)
    return client.job(job.id)


def waiting_line(client: GigpoClient, job: Job) -> str | None:
    """The reason why a job does not run yet; None: it runs, or nothing is before it."""
    if job.state not in WAITING:
        return None
    with suppress(GigpoError):  # whoever may see this job alone still watches it
        running = [one for one in client.jobs(state=JobState.RUNNING) if one.state == JobState.RUNNING]
        earlier = client.job(job.id).jobs_before
        if running or earlier:
            names = ", ".join(_running_words(one) for one in running[:_SHOWN]) or "none"
            before = f"; waiting before it: {earlier}" if earlier else ""
            return f"the job is {job.state.lower()}; running: {names}{before}; `gigpo status` shows all"
    return None


def _running_words(job: Job) -> str:
    batch = (job.metrics or {}).get("batch")
    done = f" ({batch + 1}/{job.total_batches} batches)" if isinstance(batch, int) else ""
    return f"{job.name or job.id}{done}"


def _follow_plain(client: GigpoClient, job: Job, console: Console) -> None:
    last, pace, told = None, Pace(job.total_batches), ""
    for event in client.events(job.id):
        pace.hear(event.kind, event.at_unix_s, event.data)
        line, progress = event_line(event, job.total_batches), pace.progress
        if event.kind == Kind.PHASE and progress is not None:
            tenth = f"{progress.what} {10 * progress.done // progress.total}"
            line, told = None if tenth == told else f"phase {progress_words(progress)}", tenth
        elif event.kind == Kind.METRICS and progress is not None and progress.left_s is not None:
            line = f"{line}  {duration(progress.left_s)} left"
        if line is not None and line != last:  # every segment says that it runs
            console.print(line)
            last = line


def event_line(event: Event, total_batches: int) -> str | None:
    """One line for an event; None: nothing a reader needs."""
    match read(event.kind, event.data):
        case StateReached(state=state, error=error, reason=reason):
            why = error or reason
            return f"state {state}" + (f": {why}" if why else "")
        case PhaseBegan() as began:
            return f"phase {phase_line(began)}"
        case BatchTrained(record=record):
            return f"batch {_done(record)}/{total_batches}  {figures(record)}"
        case Evaluated(result=result):
            return evaluation_line(result)
        case Warned() as warning:
            return warning_line(warning)
        case Alarmed(raised=raised, message=message):
            return f"{'alarm' if raised else 'over'}: {message}"
        case CheckpointSaved(name=name):
            return f"checkpoint {name}".rstrip()
    return None


def warning_line(warning: Warned) -> str:
    """One warning as a sentence, with how often it happened where that is more than once."""
    times = f" ({warning.count} times so far)" if warning.count > 1 else ""
    return f"warning: {warning.message}{times}"


def _done(metrics: Mapping[str, object]) -> int:
    """Batches done: `batch` counts from 0."""
    batch = metrics.get("batch")
    return batch + 1 if isinstance(batch, int) else 1


def _follow_live(client: GigpoClient, job: Job, console: Console) -> None:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(job.phase or job.state.lower(), total=job.total_batches, figures="", left="")
        handle = _live_handler(progress, task, job.total_batches)
        for event in client.events(job.id):
            handle(event)


def _live_handler(progress: Progress, task: TaskID, total_batches: int) -> Callable[[Event], None]:
    pace = Pace(total_batches)

    def handle(event: Event) -> None:
        pace.hear(event.kind, event.at_unix_s, event.data)
        printed = False
        match read(event.kind, event.data):
            case BatchTrained(record=record):
                progress.update(task, completed=_done(record), total=total_batches, figures=figures(record))
            case PhaseBegan() as began:
                progress.update(task, description=phase_words(began))
            case StateReached(state=state, error=error, reason=reason):
                progress.update(task, description=state.lower(), left="")
                printed = bool(error or reason)
            case Evaluated() | Warned():
                printed = True
        if event.kind in (Kind.PHASE, Kind.METRICS) and (now := pace.progress) is not None:
            left = "" if now.left_s is None else f"{duration(now.left_s)} left"
            progress.update(task, description=now.what, completed=now.done, total=now.total, left=left)
        if printed:
            progress.console.print(event_line(event, total_batches))

    return handle
