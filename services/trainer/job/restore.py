"""Restores a session from durable state: the newest complete checkpoint, the ledger, and the batches assigned since."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.environment import EnvironmentInfo
from services.contracts.events import Phase
from services.contracts.ids import Purpose
from services.contracts.job import JobSpec, ScratchModel
from services.contracts.jobfolder import JobFolder
from services.contracts.origin import TakenOver
from services.contracts.references import hub_store
from services.contracts.stored_spec import read_spec
from services.ledger import Ledger
from services.ledger.active_jobs import activate
from services.trainer.batch.batches import last_cursor, open_cursor
from services.trainer.batch.metrics import cut_records
from services.trainer.batch.train_step import manifests_to_replay, replay
from services.trainer.errors import JobFailed
from services.trainer.events import Events
from services.trainer.groups.arrivals import Arrivals
from services.trainer.groups.payloads import StoredGroups
from services.trainer.groups.playability import Playability
from services.trainer.groups.settlement import Settlement, SettlementKind, settlement_of
from services.trainer.groups.training_queue import TrainingQueue
from services.trainer.job.leftovers import live_records, trained_leftovers
from services.trainer.learner.errors import LearnerError
from services.trainer.learner.files import whole_folder
from services.trainer.learner.port import TrainsPolicy
from services.trainer.phases.evaluation import read_results
from services.trainer.phases.one_off_groups import consume_gathered
from services.trainer.ranks.learners import Learners
from services.trainer.session.commands import Commands
from services.trainer.session.consumption import Consumption
from services.trainer.session.session import Session
from services.trainer.settings import Settings
from services.trainer.storage.checkpoint import STATE, newest_complete, replayable_from, set_broken_aside
from services.trainer.storage.folders import made_folder
from services.trainer.storage.hub import fetched
from services.trainer.trackers.tracking import start_tracking


async def restore_session(
    redis: Redis, settings: Settings, learners: Learners, job: str, draining: Callable[[], bool]
) -> Session:
    """Become the job's trainer and come to the newest position that can be had again.

    Nothing is trained yet: `catch_up` replays.

    Raises:
        JobFailed: the job's spec, environment or model can't be used.
        StaleEpoch, LedgerSpoiled, RecordUnreadable, RanksLost.
    """
    ledger, events, folder = Ledger(redis, job), Events(redis, job), made_folder(settings.data_dir, job)
    spec, environment = await load_job(redis, job)
    epoch = await ledger.claim_epoch()
    await _fetch_base(spec, settings, folder, events)
    build_base(spec, environment, folder.base, learners.build_scratch)
    checkpoint, progress, skipped = newest_complete(folder.checkpoints)
    for broken, reason in skipped.items():
        set_broken_aside(broken)
        await events.warn(f"a checkpoint was skipped: {reason}")
    learner = _learner(learners, spec, folder.base, checkpoint)
    if progress.started_unix_s <= _taken_over_unix_s(folder):
        progress.started_unix_s = time.time()
    cut_records(folder.metrics, progress.metrics_lines)
    evaluations = read_results(folder)
    session = Session(
        job=job,
        spec=spec,
        environment=environment,
        settings=settings,
        folder=folder,
        redis=redis,
        ledger=ledger,
        events=events,
        arrivals=Arrivals(redis, ledger, f"trainer-{epoch}", settings.poll_s),
        stored=StoredGroups(redis, job),
        commands=Commands(
            redis,
            ledger,
            epoch,
            draining,
            started_unix_s=progress.started_unix_s,
            max_wall_s=spec.limits.max_wall_s,
        ),
        epoch=epoch,
        learner=learner,
        progress=progress,
        tracking=start_tracking(spec, folder, events, evaluations),
        queue=TrainingQueue(spec, next_cursor=progress.next_cursor, lost=progress.lost),
        consumption=Consumption(ledger, epoch, saved_batch=progress.batch),
        playability=Playability(),
        evaluations=evaluations,
    )
    await consume_leftovers(session)  # before anything can end the job: what was trained is not cancelled
    await redis.set(keys.base(job), str(JobFolder.of(Path(), job).base))
    await activate(redis, job)
    return session


async def catch_up(session: Session) -> None:
    """Train again what was assigned after the checkpoint, find what is under way.

    Raises:
        JobFailed, StaleEpoch; CancelRequested, PauseRequested, DrainRequested while a version is being published.
    """
    manifests = await manifests_to_replay(session)
    for cursor in session.progress.waiting:
        await open_cursor(session, cursor)
    while session.queue.next_cursor <= max(map(last_cursor, manifests.values()), default=-1):
        await open_cursor(session, session.queue.next_cursor)
    await replay(session, manifests)


async def load_job(redis: Redis, job: str) -> tuple[JobSpec, EnvironmentInfo]:
    """The API's file about the job. Raises JobFailed when it is not there or not readable."""
    spec, environment = await redis.mget([keys.spec(job), keys.environment(job)])
    if spec is None or environment is None:
        raise JobFailed(f"job {job}: its spec or environment is not in Redis")
    try:
        return read_spec(spec), EnvironmentInfo.model_validate_json(environment)
    except ValueError as error:
        raise JobFailed(f"job {job}: its spec can't be read: {error}") from error


async def _fetch_base(spec: JobSpec, settings: Settings, folder: JobFolder, events: Events) -> None:
    """Make the base of a model on the hub; the others, and one that is there, are left alone. Raises JobFailed."""
    name, revision = spec.model.model, spec.model.model_revision
    if name is None or revision is None or folder.base.exists():
        return

    async def tell(done: int, total: int) -> None:
        await events.phase(Phase.FETCH, label=f"{name} {100 * done // total} % of {total / 1e6:,.0f} MB")

    source = await fetched(name, revision, hub_store(settings.data_dir), tell)
    with whole_folder(folder.base) as unfinished:
        await asyncio.to_thread(shutil.copytree, source, unfinished, dirs_exist_ok=True)


BuildScratch = Callable[[ScratchModel, Sequence[str], int, Path], None]
"""See `scratch.build_scratch`."""


def build_base(spec: JobSpec, environment: EnvironmentInfo, folder: Path, build_scratch: BuildScratch) -> None:
    """The folder of the policy's tokenizer, config and first weights; one that is there already stays.

    A given model is copied: replicas read nothing outside the shared storage.

    Raises:
        JobFailed: the environment has no closed vocabulary, or there is no such model.
    """
    if spec.model.scratch is None:
        source = Path(str(spec.model.model))
        if folder.exists():
            return
        if not source.is_dir():
            raise JobFailed(f"model: no such folder: {source}")
        with whole_folder(folder) as unfinished:
            shutil.copytree(source, unfinished, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", ".*"))
        return
    if not environment.vocabulary:
        raise JobFailed(f"model.scratch: environment {environment.id} has no vocabulary to make a tokenizer from")
    try:
        build_scratch(spec.model.scratch, environment.scratch_words(spec), spec.training.seed, folder)
    except LearnerError as error:
        raise JobFailed(f"model.scratch: {error}") from error


def _taken_over_unix_s(folder: JobFolder) -> float:
    """Time when the job took over the training that it goes on with; 0: it began it itself."""
    if not folder.origin.exists():
        return 0.0
    return TakenOver.model_validate_json(folder.origin.read_bytes()).taken_unix_s


def _learner(learners: Learners, spec: JobSpec, base: Path, checkpoint: Path | None) -> TrainsPolicy:
    try:
        learner = learners.open(spec, base)
        if checkpoint is not None:
            learner.load(checkpoint / STATE)
    except LearnerError as error:
        raise JobFailed(f"the policy can't be loaded: {error}") from error
    return learner


async def consume_leftovers(session: Session) -> None:
    """Groups whose effect is durable, but whose trainer died before it could say so; keep what may be replayed.

    Raises:
        StaleEpoch, LedgerSpoiled, RecordUnreadable.
    """
    held = await trained_leftovers(session.ledger, session.epoch, session.progress, session.events)
    if session.progress.warmstarted:
        records = await live_records(session.ledger)
        practised = [name for name, record in records.items() if record.purpose == Purpose.WARMSTART]
        await consume_gathered(session, Settlement(SettlementKind.LEFTOVERS), practised)
    keep, batch = session.spec.checkpoint.checkpoint_keep, session.progress.batch
    replayable = replayable_from(session.folder.checkpoints, batch, keep)
    for number, names in held.items():
        if settlement_of(number) is None and number >= replayable:
            session.consumption.trained(number, names)
        else:
            await session.ledger.consume(session.epoch, number, names)
