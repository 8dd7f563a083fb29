"""The state in which a trainer leaves an unfinished job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Continuation:
    """The message with which somebody goes on with a job."""

    batch: int | None
    """Batch of the checkpoint at which it was left; None: to be taken up wherever it stands."""
    priority: int
    """Priority in the trainer's queue: `keys.HANDED_OVER` or `keys.WAITING`."""
