"""Ends a job: writes its last policy and its summary, and clears its groups from the ledger."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import msgspec
from redis.exceptions import ResponseError

from services.contracts import keys
from services.contracts.alarms import BY_NAME, sentence
from services.contracts.events import Summarized
from services.contracts.inert_steps import StepLevel, inert_streak
from services.contracts.job import JobSpec
from services.contracts.jobfolder import JobFolder
from services.contracts.states import JobState
from services.contracts.summary import EvaluationResult, JobSummary, LedgerSummary
from services.ledger import Balance, DropReason, Ledger, LedgerSpoiled, RecordUnreadable
from services.ledger.active_jobs import deactivate
from services.trainer.events import Events
from services.trainer.groups.playability import BROKEN
from services.trainer.phases.evaluation import find_result
from services.trainer.session.model_card import write_card
from services.trainer.session.session import Session
from services.trainer.session.writing import disk_cause, written
from services.trainer.storage.checkpoint import write_hashes
from services.trainer.storage.folders import write_durably
from services.trainer.storage.progress import Progress

ROWS_READ = 20
"""Newest batches that are looked at for the summary."""


def job_summary(
    job: str,
    spec: JobSpec,
    state: str,
    progress: Progress,
    evaluations: list[EvaluationResult],
    balance: Balance,
    *,
    checkpoint: str | None,
    ranks: int = 1,
    device: str | None = None,
    inert_step_level: str | None = None,
) -> JobSummary:
    """The job's summary. `success_before` and `success_after` come from evaluations of those labels."""
    before = find_result(evaluations, "before", 0)
    after = find_result(evaluations, "after", progress.batch)
    totals, batches = progress.totals, progress.batch
    mismatches = [one.mismatch_kl for one in evaluations if one.mismatch_kl is not None]
    return JobSummary(
        job_id=job,
        name=spec.name,
        state=state,
        success_before=before.success if before else None,
        success_after=after.success if after else None,
        evaluations=evaluations,
        env_steps=totals.env_steps,
        trained_steps=totals.trained_steps,
        trained_tokens=totals.trained_tokens + totals.zero_advantage_tokens,
        sampled_tokens=totals.sampled_tokens,
        optimizer_steps=totals.optimizer_steps,
        batches=batches,
        wall_s=time.time() - progress.started_unix_s,
        engine=spec.inference.engine,
        tuner_type=spec.model.tuner_type,
        ranks=ranks,
        device=device,
        advantage_estimator=spec.algorithm.advantage_estimator,
        ledger=LedgerSummary(
            opened=balance.opened,
            consumed=balance.consumed,
            dropped=balance.dropped,
            live=balance.live,
            retried=balance.retried,
        ),
        mismatch_kl_mean=fmean(mismatches) if mismatches else None,
        checkpoint=checkpoint,
        seed=spec.training.seed,
        stale_max=totals.stale_max if batches else None,
        phases_s=progress.phases_s,
        cpu_s=progress.cpu_s,
        gpu_s=progress.gpu_s,
        inert_step_level=inert_step_level,
        waits_s=progress.waits_s,
    )


async def end_job(session: Session, state: JobState, error: str | None = None) -> None:
    """End the job: drop what is live, write the summary, tell the state. Repeatable until the summary is there.

    Raises:
        StaleEpoch: a newer trainer holds the job; it is not ours to end.
    """
    await session.commands.check_epoch()
    exported = False
    if session.progress.batch > 0 or session.progress.warmstarted:
        exported = await _last_write(session, state, "the trained policy", lambda: _export(session))
        await session.consumption.finished()
    balance = await close_ledger(session.ledger, session.epoch, session.events)
    await _warn_of_broken(session, balance)
    await deactivate(session.redis, session.job)
    await session.redis.delete(keys.manifests(session.job))
    summary = job_summary(
        session.job,
        session.spec,
        state,
        session.progress,
        session.evaluations,
        balance,
        checkpoint=session.folder.final.name if exported else None,
        ranks=session.settings.ranks,
        device=session.learner.device,
        inert_step_level=inert_step_level(session.spec, session.folder.metrics),
    )
    await session.tracking.close(state)
    payload = summary.model_dump_json(indent=2).encode()
    await _last_write(session, state, "summary.json", lambda: write_durably(session.folder.summary, payload))
    await tell_end(session.events, summary, error)


def inert_step_level(spec: JobSpec, metrics: Path) -> str | None:
    """The words of the alarm of that name about the last batches."""
    try:
        rows = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()[-ROWS_READ:]]
    except (OSError, ValueError):  # the summary is written all the same
        return None
    streak, cause = inert_streak(StepLevel.of(spec), rows[::-1])
    alarm = BY_NAME["inert_step_level"]
    return sentence(alarm, streak, f"{cause}, {streak} batches in a row") if streak > alarm.above else None


async def _warn_of_broken(session: Session, balance: Balance) -> None:
    """Training and measurements leave these groups out: that is told beside the result."""
    for reason, words in BROKEN.items():
        if count := balance.dropped.get(reason, 0):
            told = words.format(f"{count} of {balance.opened} groups of the whole job")
            cause = session.playability.last_broken
            last = f", the last time: {cause}" if cause else ""
            await session.events.warn(f"{told}, which are missing in what was trained and measured{last}")


async def _last_write(session: Session, state: JobState, what: str, write: Callable[[], None]) -> bool:
    """Write what a job leaves; whether it was written. A job that succeeds waits for a disk that refuses it."""
    if state is JobState.SUCCEEDED:
        await written(session, what, write)
        return True
    try:
        write()
    except OSError as error:  # it ends all the same, as it was told to
        await session.events.warn(f"{what} cannot be written: {disk_cause(error)}")
        return False
    return True


def _export(session: Session) -> None:
    session.learner.export(session.folder.final)
    write_card(session.folder.final, session.card)
    write_hashes(session.folder.final)


async def close_ledger(ledger: Ledger, epoch: int, events: Events) -> Balance:
    """Drop what is live; the counters then. What is spoiled is told and left: a job must be able to end. StaleEpoch."""
    spoiled: dict[str, str] = {}
    for group_id in await ledger.live():
        try:
            await ledger.drop(epoch, group_id, DropReason.CANCELLED)
        except (LedgerSpoiled, ResponseError) as error:
            spoiled[group_id] = str(error)
    for group_id, cause in spoiled.items():
        await events.warn(f"group {group_id} could not be dropped: {cause}")
    await ledger.forget_strangers()
    try:
        return await ledger.balance()
    except (RecordUnreadable, ResponseError) as error:
        await events.warn(f"the ledger's counters cannot be read: {error}")
        return Balance(opened=0, consumed=0, live=len(await ledger.live()), retried=0)


async def tell_end(events: Events, summary: JobSummary, error: str | None = None) -> None:
    """The summary, then the state; the API may hear both twice."""
    await events.add(Summarized(summary=summary.model_dump(mode="json")))
    await events.ended(JobState(summary.state), error)


def ended_summary(folder: JobFolder) -> JobSummary | None:
    """The summary of a job that has ended; None: it has not."""
    if not folder.summary.exists():
        return None
    return JobSummary.model_validate(msgspec.json.decode(folder.summary.read_bytes()))
