"""A segment: the training between two checkpoints. A trainer that holds a job runs one segment after another.

    first segment   warm start -> version 0 -> evaluation `before` -> gate
    the others      up to checkpoint_every batches -> checkpoint
    the last        evaluations `after` and the baselines -> final policy and summary

The job stays with its trainer until it ends, or until a pause, a drain or a lack of inference replicas. After a crash
any trainer may start a part again; it skips the work that is already durable.
"""

from __future__ import annotations

import time

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.stdlib import BoundLogger

from services.contracts import keys
from services.contracts.events import Phase
from services.contracts.states import JobState
from services.kit.tracing import doing
from services.ledger import LedgerSpoiled, RecordUnreadable, StaleEpoch
from services.ledger.active_jobs import activate, deactivate
from services.trainer.batch.train_step import train_next_batch
from services.trainer.errors import (
    CancelRequested,
    DrainRequested,
    JobFailed,
    NoReplicaFree,
    NothingPlayed,
    PauseRequested,
    RanksLost,
    unexpected,
)
from services.trainer.groups.playability import TooManyBroken
from services.trainer.job.restore import catch_up
from services.trainer.job.summary import end_job
from services.trainer.job.takes import forget_takes
from services.trainer.phases.evaluation import Label, evaluate
from services.trainer.phases.warmstart import check_gate, warm_start
from services.trainer.replicas.compute import computing
from services.trainer.replicas.publish import publish_policy
from services.trainer.session.saving import save_checkpoint, save_if_new
from services.trainer.session.session import Session

BASELINES: tuple[Label, ...] = ("task_hidden", "task_shuffled", "random_actor")

RedisGone = (RedisConnectionError, RedisTimeoutError)
"""Redis did not come back within the client's retries: the message is delivered again when it does."""


async def run_segments(session: Session, log: BoundLogger) -> int | None:
    """Run segments until the job ends or is to be left, and deal with everything that can end it.

    Returns:
        The priority at which somebody is to go on with it; None: nobody is.

    Raises:
        StaleEpoch: a newer trainer holds the job; this session must not be used again.
        RanksLost: the learner is gone, and this session with it.
        RedisGone.
    """
    try:
        with doing("job", job=session.job):
            while await _run(session):
                pass
    except PauseRequested:
        await save_if_new(session)
        await forget_takes(session.redis, session.job)
        await deactivate(session.redis, session.job)
        await session.tracking.close(None)
        await session.events.state(JobState.PAUSED)
    except DrainRequested:
        await save_if_new(session)
        await forget_takes(session.redis, session.job)
        return keys.HANDED_OVER
    except NoReplicaFree as error:
        await save_if_new(session)
        await forget_takes(session.redis, session.job)
        await deactivate(session.redis, session.job)  # a replica must not come to a job without a trainer
        await session.events.queued(str(error))
        return keys.WAITING
    except CancelRequested:
        await end_job(session, JobState.CANCELLED)
    except (JobFailed, LedgerSpoiled, RecordUnreadable) as error:
        log.warning("job failed", job=session.job, error=str(error))
        await end_job(session, JobState.FAILED, str(error))
    except (StaleEpoch, RanksLost, *RedisGone):
        raise
    except Exception as error:  # the outermost loop: a defect ends its job, not the worker
        log.exception("job failed unexpectedly", job=session.job)
        await end_job(session, JobState.FAILED, unexpected(error))
    return None


async def _run(session: Session) -> bool:
    """Run one segment; whether another one follows."""
    begun = time.monotonic()
    await activate(session.redis, session.job)
    await session.events.state(JobState.RUNNING)
    await session.commands.check()
    await activate(session.redis, session.job)  # adds the job again where Redis lost it meanwhile
    if not session.started.is_set():
        await _start(session)
        if session.progress.batch == 0 and session.spec.training.total_batches:
            return True
    await session.events.phase(Phase.TRAINING, batch=session.progress.batch)
    trained = 0
    while session.progress.batch < session.spec.training.total_batches:
        late = time.monotonic() - begun > session.settings.segment_s
        due = trained >= session.spec.checkpoint.checkpoint_every
        if trained and (late or due) and await save_checkpoint(session):
            return True
        await session.commands.check()
        await _evaluate_in_between(session)
        async with computing(session, "training"):
            await train_next_batch(session)
        trained += 1
    await save_if_new(session)
    await _finish(session)
    return False


async def _start(session: Session) -> None:
    """Bring a job that is new, or new to this process, to where batches can be trained."""
    warmstart = session.spec.model.warmstart
    if warmstart is not None:
        await warm_start(session, warmstart)
    await catch_up(session)
    await session.events.phase(Phase.PUBLISH, version=session.progress.batch)
    begun = time.monotonic()
    async with computing(session, "publish"):
        await publish_policy(session)
    session.progress.spend("publish", time.monotonic() - begun)
    if session.progress.batch == 0:
        begun = time.monotonic()
        async with computing(session, "evaluation"):
            before = await evaluate(session, "before")
        session.progress.spend("evaluation", time.monotonic() - begun)
        if warmstart is not None:
            check_gate(warmstart, before)
    session.started.set()


async def _evaluate_in_between(session: Session) -> None:
    every, batch = session.spec.evaluation.eval_every, session.progress.batch
    if every and batch and batch % every == 0:
        begun = time.monotonic()
        async with computing(session, "evaluation"):
            await evaluate(session, "during")
        session.progress.spend("evaluation", time.monotonic() - begun)
        await session.events.phase(Phase.TRAINING, batch=batch)


async def _finish(session: Session) -> None:
    begun = time.monotonic()
    async with computing(session, "evaluation"):
        if session.progress.batch:
            await evaluate(session, "after")
        if session.spec.evaluation.eval_baselines:
            for label in BASELINES:
                await session.commands.check()
                await _evaluate_baseline(session, label)
    session.progress.spend("evaluation", time.monotonic() - begun)
    await session.events.phase(Phase.EXPORT)
    await end_job(session, JobState.SUCCEEDED)


async def _evaluate_baseline(session: Session, label: Label) -> None:
    """A baseline that can't be had here is left out: random actors need to know which actions are admissible."""
    try:
        await evaluate(session, label)
    except (NothingPlayed, TooManyBroken) as error:
        await session.events.warn(f"{error}; this baseline is left out")
