"""Reads the installation's queues and ledgers for `/metrics`: one loop of the leading API process.

Nothing is read when Prometheus scrapes: a scrape shows the last reading, and the age of it. The other API processes
show nothing, so a query need not ask which process leads. KEDA scales services by these figures.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import Metric
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from structlog.stdlib import BoundLogger

from services.api.insight.alarms import raised_alarms
from services.api.jobs.dead_letters import counted
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.api.sync.broker import queue_lengths
from services.contracts import keys
from services.contracts.alarms import ALARMS
from services.contracts.policy import PolicyManifest
from services.contracts.states import JobState
from services.kit.backlog import Backlog, backlog
from services.kit.metrics import gauge
from services.kit.values import hash_value, string_value, texts
from services.ledger import Ledger, RecordUnreadable
from services.ledger.records import Balance

STREAMS = {"groups": keys.groups_stream, "episodes": keys.episodes_stream, "scored": keys.scored_stream}
"""Queue -> stream of a job; rollout, advantage and the trainer read them."""
BEGUN = (JobState.RUNNING.value, JobState.PAUSED.value)
STALE_AFTER = 3
"""A reading that is older than so many intervals is not shown any more."""


@dataclass(frozen=True)
class JobReading:
    """One job that has begun and not ended."""

    id: str
    name: str
    project: str
    key: str
    """Id of the key that submitted it; empty: none of the database."""
    state: str
    balance: Balance | None
    """None: its ledger cannot be read."""
    queues: dict[str, Backlog]
    dead_letters: int
    version: int
    """Newest published policy version; -1: none yet."""


@dataclass(frozen=True)
class Reading:
    """The installation at one instant."""

    at: float
    """Time on the exporter's clock, seconds."""
    jobs: list[JobReading]
    states: dict[str, int]
    """State -> number of jobs."""
    trainer_queue: tuple[int, int]
    """Messages that wait, messages that trainers hold."""
    requests: dict[str, Backlog]
    """Inference replica -> its stream of requests."""
    alarms: Counter[str] = field(default_factory=Counter)
    """Alarm -> how many of them are raised."""


class Exporter:
    """The last reading.

    Args:
        interval_s: between two readings.
    """

    def __init__(self, database: Database, redis: Redis, broker: Redis, log: BoundLogger, *, interval_s: float) -> None:
        self._database, self._redis, self._broker, self._log = database, redis, broker, log
        self._interval_s, self._reading = interval_s, None

    _reading: Reading | None

    async def run(self) -> None:
        """Measure again and again without end; a service that does not answer is asked again."""
        try:
            while True:
                try:
                    await self.read()
                except (RedisError, DBAPIError, OSError) as error:
                    self._log.warning("metrics_later", error=repr(error))
                await asyncio.sleep(self._interval_s)
        finally:
            self._reading = None  # another process leads now

    async def read(self) -> None:
        """Read everything once."""
        rows, states = await self._rows()
        self._reading = Reading(
            at=time.monotonic(),
            jobs=[await self._job(row) for row in rows],
            states=states,
            trainer_queue=await queue_lengths(self._broker),
            requests=await self._requests(),
            alarms=await raised_alarms(self._redis, [row.id for row in rows]),
        )

    def families(self) -> Iterable[Metric]:
        """The gauges; none where this process does not lead or could not read for long."""
        reading = self._reading
        if reading is None or time.monotonic() - reading.at > STALE_AFTER * self._interval_s + 60:
            return ()
        return (*_of_installation(reading), *_of_jobs(reading.jobs))

    async def _rows(self) -> tuple[Sequence[JobRow], dict[str, int]]:
        async with self._database.read() as session:
            begun = select(JobRow).where(JobRow.state.in_(BEGUN)).order_by(JobRow.id)
            rows = (await session.scalars(begun)).all()
            counts = await session.execute(select(JobRow.state, func.count()).group_by(JobRow.state))
            found = {state: int(count) for state, count in counts.all()}
        return rows, {state.value: found.get(state.value, 0) for state in JobState}

    async def _job(self, row: JobRow) -> JobReading:
        redis, job = self._redis, row.id
        try:
            balance = await Ledger(redis, job).balance()
        except (RecordUnreadable, ResponseError):
            balance = None
        queues = {name: await backlog(redis, stream(job)) for name, stream in STREAMS.items()}
        dead = await counted(redis, job)
        version = await _version(redis, job)
        return JobReading(
            job, row.name or "", row.project_id, row.key_id or "", row.state, balance, queues, dead, version
        )

    async def _requests(self) -> dict[str, Backlog]:
        replicas = sorted(texts(await hash_value(self._redis, keys.REPLICAS)))
        return {name: await backlog(self._redis, keys.requests_stream(name)) for name in replicas}


async def _version(redis: Redis, job: str) -> int:
    document = await string_value(redis, keys.policy(job))
    try:
        return -1 if document is None else PolicyManifest.model_validate_json(document).version
    except ValueError:
        return -1


def _of_installation(reading: Reading) -> Iterable[Metric]:
    age_s = time.monotonic() - reading.at
    yield gauge("gigpo_export_age_seconds", "Age of the figures of queues, ledgers and jobs.", age_s)
    jobs = {(state,): float(count) for state, count in reading.states.items()}
    yield gauge("gigpo_jobs", "Jobs by state.", jobs, ["state"])
    waiting, in_flight = reading.trainer_queue
    queue = {("waiting",): float(waiting), ("in_flight",): float(in_flight)}
    yield gauge("gigpo_trainer_queue_messages", "Messages in the trainers' queue.", queue, ["state"])
    requests = {
        (replica, state): float(count)
        for replica, found in reading.requests.items()
        for state, count in (("waiting", found.waiting), ("in_flight", found.in_flight))
    }
    about = "Requests in the streams of the inference replicas."
    yield gauge("gigpo_inference_queue_requests", about, requests, ["replica", "state"])
    alarms = {(alarm.name,): float(reading.alarms[alarm.name]) for alarm in ALARMS}
    yield gauge("gigpo_alarms", "Alarms that are raised.", alarms, ["alarm"])


def _of_jobs(jobs: Sequence[JobReading]) -> Iterable[Metric]:
    known = {(one.id, one.name, one.project, one.key, one.state): 1.0 for one in jobs}
    about = "1 for every job that has begun and not ended."
    yield gauge("gigpo_job_info", about, known, ["job", "name", "project", "key", "state"])
    groups = {(one.id, *cell): count for one in jobs if one.balance for cell, count in _cells(one.balance).items()}
    yield gauge("gigpo_ledger_groups", "Groups of the ledger by state and reason.", groups, ["job", "state", "reason"])
    apart = {(one.id,): float("nan") if one.balance is None else float(one.balance.apart) for one in jobs}
    about = "Groups opened that are neither consumed, dropped nor live. Always 0; NaN: the ledger cannot be read."
    yield gauge("gigpo_ledger_imbalance_groups", about, apart, ["job"])
    retried = {(one.id,): float(one.balance.retried) for one in jobs if one.balance}
    yield gauge("gigpo_ledger_retried_attempts", "Attempts to play a group that failed.", retried, ["job"])
    entries = {
        (one.id, name, state): float(count)
        for one in jobs
        for name, found in one.queues.items()
        for state, count in (("waiting", found.waiting), ("in_flight", found.in_flight))
    }
    yield gauge("gigpo_queue_entries", "Entries of the jobs' streams.", entries, ["job", "queue", "state"])
    ages = {(one.id, name): found.oldest_s for one in jobs for name, found in one.queues.items()}
    yield gauge("gigpo_queue_oldest_seconds", "Age of the oldest entry of a stream.", ages, ["job", "queue"])
    dead = {(one.id,): float(one.dead_letters) for one in jobs}
    yield gauge("gigpo_dead_letters", "Messages that were set aside.", dead, ["job"])
    versions = {(one.id,): float(one.version) for one in jobs}
    yield gauge("gigpo_policy_version", "Newest policy version that the trainer published.", versions, ["job"])


def _cells(balance: Balance) -> dict[tuple[str, str], float]:
    """(state, reason) -> groups."""
    found = {("opened", ""): balance.opened, ("consumed", ""): balance.consumed, ("live", ""): balance.live}
    found |= {("dropped", reason): count for reason, count in balance.dropped.items()}
    return {cell: float(count) for cell, count in found.items()}
