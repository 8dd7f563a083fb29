"""Prometheus metrics of an environment service."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric

from services.env.sessions.leases import Load
from services.kit.metrics import SECONDS, gauge

STEP_SECONDS = Histogram(
    "gigpo_env_step_seconds", "Time from a step's request to its answer.", ["environment"], buckets=SECONDS
)
OPEN_SECONDS = Histogram(
    "gigpo_env_open_seconds", "Time that opening the sessions of one group took.", ["environment"], buckets=SECONDS
)
STEP_FAULTS = Counter("gigpo_env_faults", "Steps that ended in a fault.", ["environment", "fault_class"])
REBUILT = Counter("gigpo_env_sessions_rebuilt", "Sessions that were replayed on another worker.", ["environment"])
EXPIRED = Counter("gigpo_env_leases_expired", "Leases that nobody renewed.")


@cache
def step_seconds(environment: str) -> Histogram:
    """The latencies of one environment's steps, remembered: finding it by its label takes longer than adding to it."""
    return STEP_SECONDS.labels(environment)


def families(load: Load) -> Iterable[Metric]:
    """The gauges."""
    yield gauge("gigpo_env_sessions", "Sessions that are leased.", load.leases)
    yield gauge("gigpo_env_sessions_limit", "Sessions that may be leased at once.", load.max_leases)
    yield gauge("gigpo_env_draining", "1 while the service opens no more groups.", float(load.draining))
