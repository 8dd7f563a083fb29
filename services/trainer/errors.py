"""Errors that end or interrupt a job."""

from __future__ import annotations


class JobFailed(Exception):
    """The job can't go on; the message is the sentence its owner reads."""


class NothingPlayed(JobFailed):
    """An evaluation has no episode that could be played."""


class CancelRequested(Exception):
    """The user wants the job to end now."""


class PauseRequested(Exception):
    """The user wants the job to stop at this boundary and to go on later."""


class DrainRequested(Exception):
    """This worker is being stopped: leave the job to the next one, at this boundary."""


class NoReplicaFree(Exception):
    """Nobody can serve or play the job now; the message is the reason why it waits."""


class RanksLost(Exception):
    """A process of the learner's group ended; the job goes on from what is durable, with another group."""


class LearnerBroken(Exception):
    """A rank of the learner met an error that nobody expected; the message says its type and words."""


def unexpected(error: Exception) -> str:
    """What the job's owner reads of an error that nobody expected."""
    words = str(error) if isinstance(error, LearnerBroken) else f"{type(error).__name__}: {error}"
    return f"unexpected: {words}"


class CheckpointBroken(ValueError):
    """A checkpoint is half-written or altered; the message names the file."""
