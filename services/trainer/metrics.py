"""Prometheus metrics of the trainer, made from the events of its jobs.

The pool's child runs the jobs, and the side port is its parent's. So the child writes its metrics to a file every few
seconds, and the parent passes the file's text through.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from prometheus_client import Counter, Gauge

from services.contracts.events import AnyBody, BatchTrained, CheckpointSaved, Evaluated, PhaseBegan
from services.kit.metrics import exposition
from services.kit.tasks import ending_the_process

PUBLISH_EVERY_S = 5.0

BATCHES = Counter("gigpo_trainer_batches", "Batches that were trained.", ["job"])
TOKENS = Counter(
    "gigpo_trainer_tokens", "Response tokens of batches, by whether they were trained on.", ["job", "kind"]
)
STEPS = Counter("gigpo_trainer_env_steps", "Environment steps of the batches.", ["job"])
BATCH_SECONDS = Counter(
    "gigpo_trainer_batch_seconds", "Time that batches took, by what they waited for.", ["job", "part"]
)
CHECKPOINTS = Counter("gigpo_trainer_checkpoints", "Checkpoints that became durable.", ["job"])
EVALUATIONS = Counter("gigpo_trainer_evaluations", "Evaluations that ended.", ["job"])
PHASES = Counter("gigpo_trainer_phases", "Phases that jobs entered.", ["job", "phase"])
VERSION = Gauge("gigpo_trainer_policy_version", "Policy version that the newest batch made.", ["job"])
STALENESS = Gauge(
    "gigpo_trainer_staleness_versions", "Age of the newest batch's tokens, policy versions.", ["job", "of"]
)
SUCCESS = Gauge("gigpo_trainer_success_share", "Episodes of the newest batch that were won.", ["job"])
MISMATCH = Gauge(
    "gigpo_trainer_mismatch_nats", "k3 estimate of KL(engine, trainer) of the newest batch, per token.", ["job"]
)

GPU_SECONDS = Counter(
    "gigpo_trainer_gpu_seconds",
    "Seconds of the GPUs that the trainer's ranks and the job's inference replicas held.",
    ["job", "phase"],
)
CPU_SECONDS = Counter(
    "gigpo_trainer_cpu_seconds", "CPU seconds of the trainer and of the job's engines.", ["job", "phase"]
)

MOST_JOBS = 50
"""Jobs whose figures a process keeps: those it heard of last. Every label `job` of ours is bounded by this."""
_OF_JOBS = (BATCHES, TOKENS, STEPS, BATCH_SECONDS, CHECKPOINTS, EVALUATIONS, PHASES, VERSION, STALENESS, SUCCESS,
            MISMATCH, GPU_SECONDS, CPU_SECONDS)  # fmt: skip
_jobs: dict[str, None] = {}
"""Jobs in order of first mention."""

_PARTS = {
    "environment": "wait_env_s",
    "inference": "wait_generate_s",
    "rollout": "wait_s",
    "training": "train_s",
    "publishing": "publish_s",
}
"""Part -> metric of the batch; environment and inference are parts of rollout."""


def note(job: str, body: AnyBody) -> None:
    """Count one event of a job."""
    _keep(job)
    match body:
        case BatchTrained(record=record):
            _note_batch(job, record)
        case CheckpointSaved():
            CHECKPOINTS.labels(job).inc()
        case Evaluated():
            EVALUATIONS.labels(job).inc()
        case PhaseBegan(phase=phase):
            PHASES.labels(job, phase).inc()
        case _:
            return


def note_compute(job: str, phase: str, cpu_s: float, gpu_s: float) -> None:
    """Count what a phase of a job has cost."""
    _keep(job)
    CPU_SECONDS.labels(job, phase).inc(cpu_s)
    GPU_SECONDS.labels(job, phase).inc(gpu_s)


def _keep(job: str) -> None:
    _jobs.pop(job, None)
    _jobs[job] = None
    while len(_jobs) > MOST_JOBS:
        oldest = next(iter(_jobs))
        del _jobs[oldest]
        for metric in _OF_JOBS:
            metric.remove_by_labels({"job": oldest})


def publishing_thread(file: Path) -> None:
    """Write this process's metrics for its parent as long as it lives; a full disk costs the figures only."""

    def publish() -> None:
        temporary = file.with_suffix(f".{os.getpid()}")
        while True:
            with suppress(OSError):
                temporary.write_text(exposition(ours_only=True))
                temporary.replace(file)
            time.sleep(PUBLISH_EVERY_S)

    threading.Thread(target=ending_the_process(publish), name="metrics", daemon=True).start()


async def published(pulse_file: Path | None) -> str:
    """The text that the child wrote last; empty where it has written none."""
    with suppress(OSError):
        return "" if pulse_file is None else metrics_file(pulse_file).read_text()
    return ""


def metrics_file(pulse_file: Path) -> Path:
    """The file that the child writes, beside the one by which its parent gives signs of life."""
    return pulse_file.with_name(f"{pulse_file.name}-child.prom")


def _note_batch(job: str, record: Mapping[str, object]) -> None:
    BATCHES.labels(job).inc()
    STEPS.labels(job).inc(_number(record, "env_steps"))
    TOKENS.labels(job, "sampled").inc(_number(record, "tokens"))
    TOKENS.labels(job, "trained").inc(_number(record, "trained_tokens"))
    for part, name in _PARTS.items():
        BATCH_SECONDS.labels(job, part).inc(_number(record, name))
    VERSION.labels(job).set(_number(record, "version"))
    STALENESS.labels(job, "mean").set(_number(record, "staleness_mean"))
    STALENESS.labels(job, "oldest").set(_number(record, "staleness_max"))
    SUCCESS.labels(job).set(_number(record, "success"))
    MISMATCH.labels(job).set(_number(record, "mismatch_kl"))


def _number(record: Mapping[str, object], name: str) -> float:
    value = record.get(name)
    return max(float(value), 0.0) if isinstance(value, int | float) else 0.0
