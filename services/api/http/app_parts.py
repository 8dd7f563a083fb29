"""The objects that request handlers use: created when the process starts, closed when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, cast

from fastapi import Depends, Request
from redis.asyncio import Redis
from structlog.stdlib import BoundLogger

from services.api.artifacts.rollouts import RolloutArchive
from services.api.insight.alarms import AlarmWatch
from services.api.insight.exporter import Exporter
from services.api.insight.played import StateTables
from services.api.jobs.admission import Admission
from services.api.jobs.dead_letters import Servers
from services.api.jobs.environments import EnvironmentCatalogue
from services.api.jobs.takeover import keep_swept
from services.api.rest.caller import Caller
from services.api.security.parts import Security, security_of, want_administrator
from services.api.security.storage import StorageMeter
from services.api.settings import Settings
from services.api.sql.database import Database
from services.api.sync.agent_calls import AgentCalls
from services.api.sync.dispatch import Dispatcher, celery_sender
from services.api.sync.event_bus import News
from services.api.sync.fair_queue import FairQueue
from services.api.sync.leadership import lead
from services.api.sync.lost_dispatches import Losses
from services.api.sync.observer import Observer
from services.api.sync.reconciler import Reconciler
from services.api.sync.waiting_jobs import WaitingJobs
from services.contracts.jobfolder import all_jobs
from services.contracts.learner_memory import RankSettings
from services.contracts.service_settings import read_settings
from services.kit.redis import connect
from services.kit.tasks import ended


@dataclass(frozen=True)
class Container:
    """The parts of one API process."""

    settings: Settings
    log: BoundLogger
    database: Database
    redis: Redis
    broker: Redis
    """Celery's database; the same connection where it is the same one."""
    environments: EnvironmentCatalogue
    reconciler: Reconciler
    observer: Observer
    exporter: Exporter
    news: News
    rollouts: RolloutArchive
    states: StateTables
    admission: Admission
    security: Security
    agent_calls: AgentCalls

    @property
    def letters(self) -> Servers:
        """The servers that dead letters lie on."""
        return Servers(self.redis, self.broker)


@asynccontextmanager
async def running_container(settings: Settings, log: BoundLogger, fail: Callable[[], None]) -> AsyncIterator[Container]:
    """The parts, with the loops at work if this process leads; `fail` is called when one of them ends by an error.

    Raises:
        DatabaseIsNewer.
        NoAdministrator: every call wants a key, and nobody could make one.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    async with _migrated(settings, log) as database:
        redis = connect(settings.redis_url, waits_for_writes=False)
        broker = redis if settings.broker == settings.redis_url else connect(settings.broker, waits_for_writes=False)
        celery, news = celery_sender(settings.broker), News()
        environments = EnvironmentCatalogue(settings.env_address, settings.env_timeout_s)
        observer = Observer(redis, database, news, log)
        dispatcher = Dispatcher(redis, broker, celery, told=observer.expect)
        queue = FairQueue(redis, broker, database)
        reconciler = Reconciler(database, dispatcher, queue, log, interval_s=settings.reconcile_s)
        losses = Losses(database, dispatcher, log, interval_s=settings.loss_s, wake=reconciler.wake)
        waiting = WaitingJobs(redis, queue, database, dispatcher, log, interval_s=settings.loss_s)
        admission = _admission(settings, database, environments, reconciler.wake)
        security = security_of(settings, database, log)
        meter = StorageMeter(database, settings.data_dir, log)
        sweeping = partial(keep_swept, all_jobs(settings.data_dir), log)
        alarms = _alarm_watch(settings, database, redis, log)
        calls = AgentCalls(redis, log)
        answering = asyncio.create_task(calls.run())
        exporter = Exporter(database, redis, broker, log, interval_s=settings.export_s)
        loops = (reconciler.run, observer.run, losses.run, waiting.run, meter.run, alarms.run, exporter.run, sweeping)
        leading = asyncio.create_task(lead(database, log, *loops))
        leading.add_done_callback(lambda task: _report(task, log, fail))
        try:
            yield Container(
                settings,
                log,
                database,
                redis,
                broker,
                environments,
                reconciler,
                observer,
                exporter,
                news,
                RolloutArchive(),
                StateTables(),
                admission,
                security,
                calls,
            )
        finally:
            await ended([leading, answering])
            await environments.close()
            await redis.aclose()
            if broker is not redis:
                await broker.aclose()
            await security.rates.aclose()
            await asyncio.to_thread(celery.close)


def _admission(
    settings: Settings, database: Database, environments: EnvironmentCatalogue, wake: Callable[[], None]
) -> Admission:
    return Admission(
        database,
        environments,
        data_dir=settings.data_dir,
        model_roots=settings.model_roots,
        engines=settings.engines,
        trackers=settings.trackers,
        wake=wake,
        runs_here=settings.runs_here,
        hub_models=settings.hub_models,
        user_files=settings.user_files,
        ranks=read_settings(RankSettings).count,
    )


def _alarm_watch(settings: Settings, database: Database, redis: Redis, log: BoundLogger) -> AlarmWatch:
    return AlarmWatch(
        database,
        redis,
        log,
        data_dir=settings.data_dir,
        expected=settings.expected_services,
        interval_s=settings.alarm_s,
    )


@asynccontextmanager
async def _migrated(settings: Settings, log: BoundLogger) -> AsyncIterator[Database]:
    """The database at this version's revision, before anything else is opened."""
    database = Database(settings.sql_url)
    try:
        await database.migrate()
        log.info("database_ready", revision=database.revision)
        await want_administrator(settings, database)
        yield database
    finally:
        await database.close()


def _report(task: asyncio.Task[None], log: BoundLogger, fail: Callable[[], None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("loop_died", error=repr(error), exc_info=error)
        fail()


async def _of_request(request: Request) -> Container:  # a plain function would be sent to a thread
    container = cast(Container, request.app.state.container)
    caller: Caller | None = request.state.caller
    return container if caller is None else replace(container, database=container.database.seen_by(caller))


Parts = Annotated[Container, Depends(_of_request)]
