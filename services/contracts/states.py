"""States of a job, the transitions between them, and the effect of a user's command in each. No SQL, no transport.

    PENDING -> QUEUED -> RUNNING -> SUCCEEDED | FAILED | CANCELLED
                 ^          |
                 +- PAUSED <+     and back from RUNNING to QUEUED where no inference replica is free

A job's events report its actual state (`follows`). A `Command` is the state that the user wants, and the reconciler
moves the job towards it.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """The state of a job."""

    PENDING = "PENDING"
    """Accepted and stored; the trainer was not told yet."""
    QUEUED = "QUEUED"
    """The trainer's queue has it."""
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    """A checkpoint is complete and nobody works on it."""
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Command(StrEnum):
    """The user's wish for a job; the values of `keys.control`, of REST's field `wish` and of its column in SQL."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
IDLE = frozenset({JobState.PENDING, JobState.QUEUED, JobState.PAUSED})
"""States without a trainer: a cancel takes effect at once."""

RETRIED = frozenset({JobState.FAILED, JobState.CANCELLED})
"""States of a job that may be retried."""

_ALIVE = frozenset(JobState) - {JobState.PENDING}
MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.PENDING: _ALIVE,  # the trainer may be heard before the API noted that it was told
    JobState.QUEUED: _ALIVE - {JobState.QUEUED},
    JobState.RUNNING: TERMINAL | {JobState.PAUSED},
    JobState.PAUSED: TERMINAL | {JobState.QUEUED, JobState.RUNNING},
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


class CommandRefused(Exception):
    """The job's state does not allow the command; the message says which state it is."""


def follows(current: JobState, observed: JobState, *, given_back: bool = False) -> bool:
    """Whether `observed` may come after `current`; late and repeated news may not, and change nothing.

    Args:
        given_back: the trainer itself says QUEUED, with a reason; the API's own word may be late.
    """
    back = given_back and (current, observed) == (JobState.RUNNING, JobState.QUEUED)
    return back or observed in MOVES[current]


def command_after(wanted: Command, state: JobState, current: Command) -> Command:
    """The command that holds once another one is given.

    Repeating a command is fine, also a cancel on a cancelled job; resuming takes a pause back.

    Raises:
        CommandRefused: the job has ended, or is being cancelled.
    """
    if state in TERMINAL and not (wanted == Command.CANCEL and state == JobState.CANCELLED):
        raise CommandRefused(f"want a job that has not ended, got state {state}")
    if current == Command.CANCEL and wanted != Command.CANCEL:
        raise CommandRefused("the job is being cancelled")
    return wanted
