"""Deadlines and sizes of what the worker asks of others; `settings.Settings` says what each means."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvironmentLimits:
    """Deadlines and sizes of the calls."""

    open_timeout_s: float = 120.0
    step_timeout_s: float = 90.0
    call_timeout_s: float = 40.0
    coalesce_s: float = 0.001
    max_batch: int = 256


@dataclass(frozen=True)
class InferenceLimits:
    """Deadlines and sizes of the requests."""

    generate_attempts: int = 4
    replica_wait_s: float = 300.0
    replica_poll_s: float = 0.5
    lost_poll_s: float = 5.0
    coalesce_s: float = 0.001
    max_batch: int = 256
