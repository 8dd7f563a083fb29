"""Raises and clears alarms: one loop of the leading API process, and what every process says of them.

An alarm that is not over stands in Redis, so it is raised once, whichever process leads.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import and_, or_, select
from structlog.stdlib import BoundLogger

from services.api.insight.alarm_measures import (
    ROWS_READ,
    Measure,
    disk,
    job_measures,
    oldest_pending,
    silent_replicas,
)
from services.api.rest.caller import Caller
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.api.sync import feed
from services.contracts import keys
from services.contracts.alarms import BY_NAME, sentence
from services.contracts.events import Alarmed, Kind, encoded
from services.contracts.inert_steps import StepLevel
from services.contracts.rest.catalogue import AlarmView
from services.contracts.states import TERMINAL, JobState
from services.kit.streams import append
from services.kit.values import drop_field, hash_value, put_field, text_of

_BEGUN = and_(
    JobRow.state.not_in([state.value for state in TERMINAL]),
    or_(JobRow.started_unix_s.is_not(None), JobRow.state == JobState.RUNNING.value),
)
"""Jobs that are watched."""


class RaisedAlarm(msgspec.Struct, frozen=True, kw_only=True):
    """One alarm that is not over, as it stands in Redis."""

    since_unix_s: float
    value: float
    message: str


@dataclass(frozen=True)
class _Watched:
    """A job that has begun and not ended."""

    id: str
    state: str
    batch_timeout_s: float
    step_level: StepLevel


class AlarmWatch:
    """One loop that measures; what is over its limit in two looks in a row is an alarm, so a restart is none.

    Args:
        expected: services of which an instance must be alive.
        interval_s: between two looks.
    """

    def __init__(
        self,
        database: Database,
        redis: Redis,
        log: BoundLogger,
        *,
        data_dir: Path,
        expected: Sequence[str],
        interval_s: float,
    ) -> None:
        self._database, self._redis, self._log = database, redis, log
        self._data_dir, self._expected, self._interval_s = data_dir, expected, interval_s
        self._suspected: dict[str, set[str]] = {}
        """Key of alarms -> causes that were over their limit at the last look."""
        self._running_since: dict[str, float] = {}

    async def run(self) -> None:
        """Measure again and again without end; a Redis that does not answer is asked again."""
        while True:
            try:
                await self.look()
            except (RedisError, OSError) as error:
                self._log.warning("alarms_later", error=repr(error))
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Measure everything once."""
        jobs = await self._jobs()
        running = {job.id for job in jobs if job.state == JobState.RUNNING}
        self._running_since = {job: self._running_since.get(job, time.monotonic()) for job in running}
        known = {keys.alarms(job.id) for job in jobs} | {keys.ALARMS}
        for key in self._suspected.keys() - known:  # the job has ended, and its alarms with it
            await self._redis.unlink(key)
        self._suspected = {key: causes for key, causes in self._suspected.items() if key in known}
        for job in jobs:
            await self._hold(keys.alarms(job.id), await self._measured(job), job.id)
        whole = [await asyncio.to_thread(disk, self._data_dir), *await silent_replicas(self._redis, self._expected)]
        await self._hold(keys.ALARMS, whole, None)

    async def _jobs(self) -> list[_Watched]:
        patience = JobRow.spec["limits"]["batch_timeout_s"].as_float()
        algorithm = JobRow.spec["algorithm"]
        level = (
            algorithm["advantage_estimator"].as_string(),
            JobRow.spec["rollout"]["num_generations"].as_integer(),
            algorithm["gigpo_step_advantage_weight"].as_float(),
        )
        query = select(JobRow.id, JobRow.state, patience, *level).where(_BEGUN).order_by(JobRow.id)
        async with self._database.read() as session:
            found = (await session.execute(query)).all()
        return [
            _Watched(id_, state, limit or 600.0, StepLevel(estimator or "", generations or 0, weight or 0.0))
            for id_, state, limit, estimator, generations, weight in found
        ]

    async def _measured(self, job: _Watched) -> list[Measure]:
        events = await feed.newest_events(self._database, job.id, [Kind.METRICS], limit=ROWS_READ)
        found = await job_measures(self._redis, job.id, [event.data for event in events], job.step_level)
        if (since := self._running_since.get(job.id)) is not None:
            watched_s = time.monotonic() - since
            found.append(await oldest_pending(self._redis, job.id, job.batch_timeout_s, watched_s))
        return found

    async def _hold(self, key: str, measures: Sequence[Measure], job: str | None) -> None:
        """Raise what is over its limit for the second time, clear what is not over it any more."""
        raised = await _raised(self._redis, key)
        over = {one.cause: one for one in measures if one.is_over}
        for cause in raised.keys() - over.keys():
            await self._tell(job, cause, raised[cause], raised=False)
            await drop_field(self._redis, key, cause)
        for cause in over.keys() & (self._suspected.get(key, set()) | raised.keys()):
            measure, former = over[cause], raised.get(cause)
            alarm = RaisedAlarm(
                since_unix_s=former.since_unix_s if former else time.time(),
                value=measure.value,
                message=sentence(BY_NAME[measure.alarm], measure.value, measure.detail),
            )
            if former is None:
                await self._tell(job, cause, alarm, raised=True)  # sent before it is noted: twice is better than never
            if alarm != former:
                await put_field(self._redis, key, cause, msgspec.json.encode(alarm).decode())
        self._suspected[key] = set(over)

    async def _tell(self, job: str | None, cause: str, alarm: RaisedAlarm, *, raised: bool) -> None:
        self._log.warning("alarm" if raised else "alarm_over", job=job, cause=cause, message=alarm.message)
        if job is not None:
            name = cause.partition(":")[0]
            body = Alarmed(name=name, raised=raised, message=alarm.message, value=alarm.value)
            await append(self._redis, keys.events_stream(job), encoded(body))


async def alarms_seen(database: Database, redis: Redis, caller: Caller) -> list[AlarmView]:
    """The alarms of the installation and of the jobs that the caller sees, the oldest first."""
    async with database.seen_by(caller).read() as session:
        jobs = (await session.scalars(select(JobRow.id).where(_BEGUN))).all()
    places = [(keys.ALARMS, None), *((keys.alarms(job), job) for job in jobs)]
    return await _views(redis, places)


async def raised_alarms(redis: Redis, jobs: Sequence[str]) -> Counter[str]:
    """Alarm -> how many of them are raised, of the installation and of these jobs."""
    found = [await _raised(redis, key) for key in (keys.ALARMS, *map(keys.alarms, jobs))]
    return Counter(cause.partition(":")[0] for causes in found for cause in causes)


async def alarms_of(redis: Redis, job: JobRow) -> list[AlarmView]:
    """The alarms of a job, the oldest first; an ended job has none."""
    return [] if job.state in TERMINAL else await _views(redis, [(keys.alarms(job.id), job.id)])


async def _views(redis: Redis, places: Sequence[tuple[str, str | None]]) -> list[AlarmView]:
    found = [_view(cause, alarm, job) for key, job in places for cause, alarm in (await _raised(redis, key)).items()]
    return sorted(found, key=lambda one: one.since_unix_s)


async def _raised(redis: Redis, key: str) -> dict[str, RaisedAlarm]:
    """Cause -> alarm; what this version cannot read or does not know is left out."""
    found = {}
    for raw, value in (await hash_value(redis, key)).items():
        cause = text_of(raw)
        if cause is None or cause.partition(":")[0] not in BY_NAME:
            continue
        try:
            found[cause] = msgspec.json.decode(value, type=RaisedAlarm)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
    return found


def _view(cause: str, alarm: RaisedAlarm, job: str | None) -> AlarmView:
    name, _, subject = cause.partition(":")
    kind = BY_NAME[name]
    return AlarmView(
        name=name,
        job_id=job,
        subject=subject,
        since_unix_s=alarm.since_unix_s,
        value=alarm.value,
        above=kind.above,
        unit=kind.unit,
        message=alarm.message,
        meaning=kind.meaning,
        advice=kind.advice,
    )
