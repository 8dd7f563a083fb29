"""Watching a job: a bar with live figures on a terminal, plain lines elsewhere. It returns when the job has ended."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from gigpo.client.models import Event, Job, JsonObject
from gigpo.client.synchronous import GigpoClient
from services.contracts.events import Warned, warned

FIGURES: dict[str, tuple[str, str]] = {
    "success": ("success", ".2f"),
    "return_mean": ("return", ".2f"),
    "episode_advantage_share": ("A^E", ".0%"),
    "step_advantage_share": ("A^S", ".0%"),
    "tokens_per_s": ("tokens/s", ",.0f"),
    "env_steps_per_s": ("steps/s", ",.0f"),
}
"""Metric -> its word and format in the live line."""


def figures(metrics: JsonObject) -> str:
    """The live line's figures, e.g. `success 0.41  return 0.35  A^E 62%`; those that are missing are left out."""
    metrics = {**metrics, "env_steps_per_s": env_steps_per_s(metrics)}
    shown = [
        f"{word} {metrics[name]:{form}}"
        for name, (word, form) in FIGURES.items()
        if isinstance(metrics.get(name), int | float)
    ]
    return "  ".join(shown)


def env_steps_per_s(metrics: JsonObject) -> float | None:
    """Environment steps of a batch over its wall time; None where a part of that is not known."""
    parts = [metrics.get(name) for name in ("wait_s", "train_s", "publish_s")]
    known = [part for part in parts if isinstance(part, int | float)]
    steps = metrics.get("env_steps")
    if len(known) < len(parts) or not isinstance(steps, int) or sum(known) <= 0:
        return None
    return steps / sum(known)


def evaluation_line(data: JsonObject) -> str:
    """One evaluation as a sentence."""
    label, success, error = data.get("label"), data.get("success"), data.get("standard_error")
    if not isinstance(success, int | float) or not isinstance(error, int | float):
        return f"evaluation {label}"
    return f"evaluation {label}: success {success:.3f} ± {error:.3f} on {data.get('episodes')} episodes"


def follow(client: GigpoClient, job: Job, console: Console) -> Job:
    """Show the job until it has ended; returns it as it is then."""
    if job.ended:
        return job
    show = _follow_live if console.is_terminal else _follow_plain
    show(client, job, console)
    return client.job(job.id)


def _follow_plain(client: GigpoClient, job: Job, console: Console) -> None:
    last = None
    for event in client.events(job.id):
        line = event_line(event, job.total_batches)
        if line is not None and line != last:  # every segment says that it runs
            console.print(line)
            last = line


def event_line(event: Event, total_batches: int) -> str | None:
    """One line for an event; None: nothing a reader needs."""
    data = event.data
    if event.kind == "state":
        why = data.get("error") or data.get("reason")
        return f"state {data.get('state')}" + (f": {why}" if why else "")
    if event.kind == "phase":
        return f"phase {phase_words(data)}"
    if event.kind == "metrics":
        return f"batch {_done(data)}/{total_batches}  {figures(data)}"
    if event.kind == "evaluation":
        return evaluation_line(data)
    if event.kind == "warning":
        return warning_line(warned(data))
    if event.kind == "checkpoint":
        return f"checkpoint {data.get('name', '')}".rstrip()
    return None


def warning_line(warning: Warned) -> str:
    """One warning as a sentence, with how often it happened where that is more than once."""
    times = f" ({warning.count} times so far)" if warning.count > 1 else ""
    return f"warning: {warning.message}{times}"


def phase_words(data: JsonObject) -> str:
    """`training`, or `evaluation before`."""
    return " ".join(str(data[name]) for name in ("phase", "label") if data.get(name))


def _done(metrics: JsonObject) -> int:
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
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(job.phase or job.state.lower(), total=job.total_batches, figures="")
        handle = _live_handler(progress, task, job.total_batches)
        for event in client.events(job.id):
            handle(event)


def _live_handler(progress: Progress, task: TaskID, total_batches: int) -> Callable[[Event], None]:
    def handle(event: Event) -> None:
        if event.kind == "metrics":
            progress.update(task, completed=_done(event.data), figures=figures(event.data))
        elif event.kind == "phase":
            progress.update(task, description=phase_words(event.data))
        elif event.kind == "state":
            progress.update(task, description=str(event.data.get("state")).lower())
        if event.kind in {"evaluation", "warning"} or (
            event.kind == "state" and (event.data.get("error") or event.data.get("reason"))
        ):
            progress.console.print(event_line(event, total_batches))

    return handle
