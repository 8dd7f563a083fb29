"""Measures what a phase of a job costs: CPU seconds, and seconds of GPUs that are held."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.contracts.policy import ReplicaStatus
from services.kit.usage import cpu_s
from services.trainer.metrics import note_compute
from services.trainer.replicas.live import live_replicas
from services.trainer.session.session import Session


@asynccontextmanager
async def computing(session: Session, phase: str) -> AsyncIterator[None]:
    """Add what the trainer and the job's engines use to the phase; nothing where it is left by an error.

    An engine that appears or starts again meanwhile counts from then on.
    """
    engines, own_s, began = await _engines(session), cpu_s(), time.monotonic()
    yield
    lasted_s, own_s = time.monotonic() - began, cpu_s() - own_s
    now = await _engines(session)
    sampled_s = sum(max(0.0, one.cpu_s - engines.get(name, one).cpu_s) for name, one in now.items())
    held = sum(one.gpus for one in now.values())
    if session.learner.device != "cpu":
        held += session.settings.ranks
    session.progress.compute(phase, own_s + sampled_s, held * lasted_s)
    note_compute(session.job, phase, own_s + sampled_s, held * lasted_s)


async def _engines(session: Session) -> dict[str, ReplicaStatus]:
    """The replicas that serve the job; each serves one job alone."""
    live = await live_replicas(session.redis)
    return {name: status for name, status in live.items() if status.job_id == session.job}
