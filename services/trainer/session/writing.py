"""Writes that a job cannot continue without: they are retried while the disk refuses them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from typing import TypeVar

from services.trainer.session.session import Session

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0

T = TypeVar("T")


async def written(session: Session, what: str, write: Callable[[], T]) -> T:
    """The result of `write`, which is repeatable, once the disk takes it; its user is told why it has to wait.

    Raises:
        CancelRequested, PauseRequested, DrainRequested, StaleEpoch, JobFailed (max_wall_s): while it waited.
    """
    pause_s, told = FIRST_PAUSE_S, ""
    while True:
        try:
            return write()
        except OSError as error:
            cause = disk_cause(error)
        if cause != told:
            await session.events.warn(f"{what} cannot be written: {cause}; the job retries until it works")
            told = cause
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        await session.commands.check()


def disk_cause(error: OSError) -> str:
    """The error of the disk, such as `No space left on device: /data/jobs/j1/base/config.json`."""
    if isinstance(error, shutil.Error):  # one entry a file: (source, destination, words)
        return str(error.args[0][0][2])
    return f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error)
