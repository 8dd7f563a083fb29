"""Orders the jobs that wait for a trainer, so that projects take turns. A project's own jobs keep their order.

A job's round is the number of its project's jobs that are at work or wait before it. Lower rounds come first; in one
round, the project whose newest job began longest ago. Trainers take messages by themselves, so the order lies in the
queue: while no API runs, they go on in the last one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError, WatchError
from sqlalchemy import func, select

from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.api.sync.broker import held_jobs, job_named_in
from services.contracts import keys
from services.contracts.states import IDLE, Command, JobState
from services.kit.kombu_layout import waiting_lists

WAITING_LIST = waiting_lists(keys.TRAINER_QUEUE)[-1]
"""Workers take from its end. Jobs that a trainer hands over have a list of their own and go first."""
_TRIES = 3
_TOGETHER = 500
"""Values in one command or statement."""
TELL_AGAIN_S, FORGOTTEN_S = 20.0, 60
PATIENCE_S = 1.0
"""Longest wait of somebody who asks for a job's place."""

T = TypeVar("T")


@dataclass(frozen=True)
class Turn:
    """The figures that decide about a queued job's turn."""

    project: str
    state: JobState
    wanted: bool
    """False: its owner has cancelled or paused it; it counts against nobody."""

    @property
    def waits(self) -> bool:
        return self.wanted and self.state in IDLE


def fair_order(
    waiting: Sequence[str | None], turns: Mapping[str, Turn], held: Set[str], served: Mapping[str, float]
) -> list[int]:
    """Indices into `waiting`, in the order in which trainers are to take them.

    Args:
        waiting: the job of each message, the next one first; None: the message cannot be read.
        turns: of the jobs that are known. One that is not, and one whose trainer died, goes first.
        held: jobs of which a trainer holds the message.
        served: project -> when its newest job began, Unix seconds.
    """
    known = {job for job in (*held, *waiting) if job is not None and job in turns}
    used = Counter(turns[job].project for job in known if job in held or turns[job].state == JobState.RUNNING)
    ranks: list[tuple[int, float]] = []
    for job in waiting:
        turn = turns.get(job or "")
        if turn is None or turn.state == JobState.RUNNING:
            ranks.append((-1, 0.0))
            continue
        ranks.append((used[turn.project], served.get(turn.project, 0.0)))
        used[turn.project] += turn.waits
    return sorted(range(len(waiting)), key=ranks.__getitem__)


class FairQueue:
    """Keeps the trainers' queue in that order, and tells how many jobs are before each one that waits.

    Args:
        broker: Celery's database.
    """

    def __init__(self, redis: Redis, broker: Redis, database: Database) -> None:
        self._redis, self._broker, self._database = redis, broker, database
        self._told: Mapping[str, int] = {}
        self._told_at = -TELL_AGAIN_S
        self.before: Mapping[str, int] = {}
        """Job that waits -> jobs that come before it, in their order; as of the last `arrange`."""
        self.held: Set[str] = frozenset()
        """Jobs that trainers were at work on at that moment."""

    async def arrange(self) -> None:
        """Order the queue and publish the places. Raises RedisError, QueueUnreadable."""
        for _ in range(_TRIES):
            try:
                self.before, self.held = await self._arrange()
                break
            except WatchError:  # a message came or went meanwhile
                continue
        await self._tell()

    async def _arrange(self) -> tuple[Mapping[str, int], Set[str]]:
        async with self._broker.pipeline(transaction=True) as pipe:
            await pipe.watch(WAITING_LIST)
            messages = (await cast(Awaitable[list[bytes]], pipe.lrange(WAITING_LIST, 0, -1)))[::-1]
            held = await held_jobs(self._broker)
            if not messages:
                return {}, held
            waiting = await asyncio.to_thread(lambda: [job_named_in(message) for message in messages])
            turns = await self._turns({*held, *filter(None, waiting)})
            order = fair_order(waiting, turns, held, await self._served({turn.project for turn in turns.values()}))
            if order != sorted(order):
                pipe.multi()  # type: ignore[no-untyped-call]
                pipe.delete(WAITING_LIST)
                for some in _in_parts(order):
                    pipe.lpush(WAITING_LIST, *(messages[index] for index in some))
                await pipe.execute()
        before: dict[str, int] = {}
        for job in (waiting[index] for index in order):
            if (
                job in turns and turns[job].wanted and job not in held
            ):  # one may have been taken since the list was read
                before.setdefault(job, len(before))
        return {job: count for job, count in before.items() if turns[job].waits}, held

    async def _turns(self, job_ids: Set[str]) -> dict[str, Turn]:
        columns = select(JobRow.id, JobRow.project_id, JobRow.state, JobRow.command)
        found: dict[str, Turn] = {}
        async with self._database.read() as session:
            for some in _in_parts(sorted(job_ids)):
                for job, project, state, command in await session.execute(columns.where(JobRow.id.in_(some))):
                    found[job] = Turn(project, JobState(state), command == Command.RUN)
        return found

    async def _served(self, projects: Set[str]) -> dict[str, float]:
        if len(projects) < 2:
            return {}
        newest = select(JobRow.project_id, func.max(JobRow.started_unix_s)).group_by(JobRow.project_id)
        async with self._database.read() as session:
            rows = (await session.execute(newest.where(JobRow.project_id.in_(projects)))).all()
        return {project: began for project, began in rows if began is not None}

    async def _tell(self) -> None:
        """Publish what changed, and everything at intervals, as the key expires when no process leads any more."""
        now = time.monotonic()
        if self.before == self._told and now - self._told_at < TELL_AGAIN_S:
            return
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.QUEUE_PLACES)
            for some in _in_parts(list(self.before.items())):
                pipe.hset(keys.QUEUE_PLACES, mapping={job: count for job, count in some})
            pipe.expire(keys.QUEUE_PLACES, FORGOTTEN_S)
            await pipe.execute()
        self._told, self._told_at = self.before, now


async def jobs_before(redis: Redis, job_id: str) -> int | None:
    """How many jobs a trainer takes before this one; None: it does not wait in the queue, or Redis cannot tell now."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            [found] = await cast(Awaitable[list[bytes | None]], redis.hmget(keys.QUEUE_PLACES, [job_id]))
    except (RedisError, OSError, TimeoutError):
        return None
    return int(found) if found is not None and found.isdigit() else None


def _in_parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for begin in range(0, len(values), _TOGETHER):
        yield values[begin : begin + _TOGETHER]
