"""Dispatches jobs to the trainer: the spec and the user's command through Redis, the task through Celery."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence, Set

import msgspec
from celery import Celery
from kombu.exceptions import KombuError
from redis.asyncio import Redis

from services.api.sql.tables import JobRow
from services.api.sync.broker import announced_jobs
from services.contracts import keys
from services.contracts.events import Phase, PhaseBegan, StateReached, encoded
from services.contracts.keys import WAITING
from services.contracts.states import TERMINAL, JobState
from services.kit.broker import broker_settings
from services.kit.streams import append
from services.kit.values import queue_string
from services.ledger.active_jobs import active_jobs
from services.ledger.ended_jobs import let_expire
from services.ledger.warnings import Warnings

WRITABLE_S = 60


class BrokerFailed(Exception):
    """The queue did not take a message; the message says why."""


def celery_sender(redis_url: str) -> Celery:
    """A Celery application that only sends; results are the job's events."""
    app = Celery("api", set_as_current=False)
    app.conf.update(
        task_serializer="json",
        task_ignore_result=True,
        task_publish_retry=False,  # the reconciler repeats what failed
        broker_connection_timeout=5,
        **broker_settings(redis_url, socket_connect_timeout=5, socket_timeout=10),
    )
    return app


class Dispatcher:
    """Writes to Redis and to the trainer's queue. Every call may be repeated.

    Args:
        broker: Celery's database.
        told: is called with the jobs to whose event streams something was added.
    """

    def __init__(self, redis: Redis, broker: Redis, celery: Celery, told: Callable[[Sequence[str]], None]) -> None:
        self._redis, self._broker, self._celery, self._told = redis, broker, celery, told

    async def dispatch(self, jobs: Sequence[JobRow]) -> None:
        """Hand jobs to the trainer. What it needs is in Redis before its messages can be read."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for job in jobs:
                pipe.set(keys.environment(job.id), msgspec.json.encode(job.environment))
                pipe.set(keys.spec(job.id), msgspec.json.encode(job.spec))
                pipe.set(keys.control(job.id), job.command)
            await pipe.execute()
        queued, event = [job.id for job in jobs if job.state != JobState.RUNNING], _state_event(JobState.QUEUED)
        await asyncio.gather(*(append(self._redis, keys.events_stream(job_id), event) for job_id in queued))
        self._told([job.id for job in jobs])
        await self.enqueue([job.id for job in jobs])

    async def enqueue(self, job_ids: Sequence[str]) -> None:
        """Have the trainer look at the jobs; one that has ended it leaves alone."""
        await asyncio.to_thread(self._send, job_ids)

    def _send(self, job_ids: Sequence[str]) -> None:
        try:
            with self._celery.producer_or_acquire() as producer:
                for job_id in job_ids:
                    self._celery.send_task(
                        keys.RUN_SEGMENT,
                        args=[job_id],
                        queue=keys.TRAINER_QUEUE,
                        priority=WAITING,
                        producer=producer,
                    )
        except KombuError as error:
            raise BrokerFailed(f"jobs {job_ids} could not be added to the trainer's queue: {error}") from error

    async def try_writing(self) -> None:
        """Raises WritesRefused, also where the server still answers reads; RedisError."""
        await self._redis.set(keys.WRITABLE, b"1", ex=WRITABLE_S)

    async def active(self) -> set[str]:
        """The jobs that a trainer works on."""
        return await active_jobs(self._redis)

    async def announced(self) -> set[str]:
        """The jobs of which the queue or a worker has a message. Raises QueueUnreadable."""
        return await announced_jobs(self._broker)

    async def undispatched(self, job_ids: Iterable[str], announced: Set[str]) -> set[str]:
        """Those that are not announced, or whose spec is not in Redis."""
        asked = list(job_ids)
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in asked:
                pipe.exists(keys.spec(job_id), keys.environment(job_id))
            documents = await pipe.execute()
        return {job for job, found in zip(asked, documents, strict=True) if found < 2 or job not in announced}

    async def untold(self, commands: Mapping[str, str]) -> set[str]:
        """Those for which another command, or none, stands in Redis than here."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id in commands:
                queue_string(pipe, keys.control(job_id))
            told = await pipe.execute()
        return {
            job for (job, command), (found,) in zip(commands.items(), told, strict=True) if found != command.encode()
        }

    async def tell_command(self, job_id: str, command: str) -> None:
        """The trainer reads it at every step boundary."""
        await self._redis.set(keys.control(job_id), command)

    async def tell_waiting(self, job_id: str, reason: str, before: int) -> None:
        """Why the job waits, and for how many others. No state: a trainer may take the job at this moment, and its word
        must be the last."""
        event = PhaseBegan(phase=Phase.WAITING, detail={"reason": reason, "before": before})
        await append(self._redis, keys.events_stream(job_id), encoded(event))
        self._told([job_id])

    async def publish_state(self, job_id: str, state: JobState) -> None:
        """A state that the API itself brings about, as an event among the others."""
        await append(self._redis, keys.events_stream(job_id), _state_event(state))
        if state in TERMINAL:
            await let_expire(self._redis, job_id)
        self._told([job_id])

    async def warn(self, job_id: str, message: str) -> None:
        """A warning for the job's owner, as an event."""
        await Warnings(self._redis, "api").warn(job_id, message)
        self._told([job_id])


def _state_event(state: JobState) -> bytes:
    return encoded(StateReached(state=state))
