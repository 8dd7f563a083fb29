"""Compares a job's needs with the machine: refuses a job that can never fit, and warns of one that may not."""

from __future__ import annotations

import math

from services.api.jobs.machine import Machine
from services.contracts.job import JobSpec
from services.contracts.rest.jobs import Estimates

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")

Problems = list[tuple[str, str]]
"""(field, sentence) pairs."""


def misfits(spec: JobSpec, needs: Estimates, machine: Machine) -> tuple[Problems, list[str]]:
    """Needs that can never fit on this machine, and warnings of those that may not.

    A need is refused where even its lower bound exceeds all that the machine has; the trainer may use main memory or a
    GPU, so the larger one counts. Ranks have a GPU each, and share the main memory.
    """
    model = "model.scratch" if spec.model.scratch else "model.model"
    memory = max(machine.memory, machine.gpu)
    kind = "GPU" if machine.gpu >= machine.memory else "memory"
    now = machine.gpu or machine.available
    largest = (
        "checkpoint.checkpoint_keep" if 2 * needs.checkpoint_bytes > needs.disk_bytes else "training.total_batches"
    )
    ranks = 1 if machine.gpu else needs.trainer_ranks
    trainer = "the trainer" if needs.trainer_ranks == 1 else "each rank of the trainer"
    held = [
        (model, trainer, "trainer_memory_bytes", kind, memory // ranks, now // ranks),
        (model, "the engine", "engine_memory_bytes", kind, memory, now),
        ("rollout.groups_per_batch", "the queue of groups", "queue_memory_bytes", "memory", machine.memory,
         machine.available),
        (largest, "the job", "disk_bytes", "disk", machine.disk, machine.disk_free),
    ]  # fmt: skip
    problems, warnings = Problems(), list[str]()
    for field, who, name, place, total, free in held:
        low, high, value = needs.ranges[name].low, needs.ranges[name].high, getattr(needs, name)
        if total and low > total:
            problems.append((field, f"{who} needs {sized(low)} of {place} or more, this machine has {sized(total)}"))
        elif free and value > free:
            warnings.append(
                f"{field}: {who} needs about {sized(value)} of {place} ({sized(low)} to {sized(high)}), this machine "
                f"has {sized(free)} free of {sized(total)}"
            )
    return problems, warnings


def too_long(spec: JobSpec, needs: Estimates) -> list[str]:
    """A warning where the job will not be done before its own deadline."""
    if needs.time_s is None or needs.ranges["time_s"].low <= spec.limits.max_wall_s:
        return []
    low, limit = needs.ranges["time_s"].low, spec.limits.max_wall_s
    return [f"limits.max_wall_s: the job fails after {limit:,.0f} s, it needs {low:,.0f} s or more"]


def sized(count: float) -> str:
    """`2.4 GB`, `24 GB`, `240 GB`."""
    power = min(int(math.log10(max(count, 1)) / 3), len(_UNITS) - 1)
    number = count / 1000**power
    return f"{number:.1f} {_UNITS[power]}" if power and number < 10 else f"{number:,.0f} {_UNITS[power]}"
