"""Ends a job that could not be loaded: with an error, a summary, and no live group in the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from redis.asyncio import Redis

from services.contracts.job import JobSpec
from services.contracts.jobfolder import JobFolder
from services.contracts.states import JobState
from services.ledger import Ledger, LedgerSpoiled, MoveRefused, RecordUnreadable
from services.ledger.active_jobs import deactivate
from services.trainer.errors import JobFailed
from services.trainer.events import Events
from services.trainer.job.leftovers import consume_trained
from services.trainer.job.restore import load_job
from services.trainer.job.summary import close_ledger, job_summary, tell_end
from services.trainer.phases.evaluation import read_results
from services.trainer.storage.checkpoint import newest_complete
from services.trainer.storage.folders import write_durably
from services.trainer.storage.progress import Progress

T = TypeVar("T")


async def end_unstartable(redis: Redis, folder: JobFolder, job: str, error: str) -> None:
    """Fail a job that has no session.

    Without a readable spec there is no summary, only the state.
    """
    ledger, events = Ledger(redis, job), Events(redis, job)
    epoch = await ledger.claim_epoch()
    progress = _known(lambda: newest_complete(folder.checkpoints)[1]) or Progress()
    with suppress(LedgerSpoiled, RecordUnreadable, MoveRefused):  # perhaps why it cannot start
        await consume_trained(ledger, epoch, progress, events)
    balance = await close_ledger(ledger, epoch, events)
    await deactivate(redis, job)
    spec = await _spec(redis, job)
    if spec is None:
        await events.ended(JobState.FAILED, error)
        return
    results = _known(lambda: read_results(folder))
    progress.started_unix_s = progress.started_unix_s or time.time()
    summary = job_summary(job, spec, JobState.FAILED, progress, results or [], balance, checkpoint=None)
    with suppress(OSError):  # the events say the same; a redelivery finds the command and ends the job again
        write_durably(folder.summary, summary.model_dump_json(indent=2).encode())
    await tell_end(events, summary, error)


def _known(read: Callable[[], T]) -> T | None:
    """The readable part of the job's files; None: that is perhaps why it cannot start."""
    try:
        return read()
    except JobFailed:
        return None


async def _spec(redis: Redis, job: str) -> JobSpec | None:
    try:
        return (await load_job(redis, job))[0]
    except JobFailed:
        return None
