"""Deadlines and sizes of the worker's requests to other services; `settings.Settings` documents each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EnvironmentLimits:
    """Deadlines and sizes of the calls."""

    open_timeout_s: float = 120.0
    step_timeout_s: float = 90.0
    call_timeout_s: float = 40.0
    tell_after_s: float = 2.0
    """A call that is asked again for so long is told to the job's owner."""
    tell_room_after_s: float = 30.0
    """The same for want of room, which is usual."""
    coalesce_s: float = 0.001
    max_batch: int = 256


@dataclass(frozen=True)
class InferenceLimits:
    """Deadlines and sizes of the requests."""

    generate_attempts: int = 4
    replica_wait_s: float = 300.0
    replica_poll_s: float = 0.5
    lost_poll_s: float = 5.0
    tell_after_s: float = 5.0
    """A prompt that waits so long for a replica is told to the job's owner; an engine restarts in about that time."""
    coalesce_s: float = 0.001
    max_batch: int = 256
