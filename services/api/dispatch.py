"""How the trainer is told: what a job is (Redis), that it is there (Celery), what the user wants (Redis)."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError
from redis.asyncio import Redis

from services.api.states import JobState
from services.contracts import keys
from services.contracts.messages import JobEvent, encode
from services.kit.streams import FIELD


class BrokerFailed(Exception):
    """The queue did not take a message; the message says why."""


TASK, QUEUE = "gigpo.trainer.run_segment", "trainer"
WAITING = 9
"""Priority of a job that waits for its turn, the lowest: a running job's own next segment goes first, so that a job is
brought to its end, with the inference replica that serves it, before the next one begins."""


def celery_sender(redis_url: str) -> Celery:
    """A Celery application that only sends; results are the job's events."""
    app = Celery("api", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        task_ignore_result=True,
        task_publish_retry=False,  # the reconciler repeats what failed
        broker_connection_timeout=5,
        broker_transport_options={"socket_connect_timeout": 5, "socket_timeout": 10},
    )
    return app


class Dispatcher:
    """Writes to Redis and to the trainer's queue. Every call may be repeated."""

    def __init__(self, redis: Redis, celery: Celery) -> None:
        self._redis, self._celery = redis, celery

    async def dispatch(self, job_id: str, spec: dict[str, Any], environment: dict[str, Any], wish: str) -> None:
        """Hand the job to the trainer. What it needs is in Redis before the message can be read."""
        await self._redis.set(keys.environment(job_id), json.dumps(environment))
        await self._redis.set(keys.spec(job_id), json.dumps(spec))
        await self.tell_wish(job_id, wish)
        await self.publish_state(job_id, JobState.QUEUED)
        await self.enqueue(job_id)

    async def enqueue(self, job_id: str) -> None:
        """Have the trainer look at the job; one that has ended it leaves alone."""
        try:
            await asyncio.to_thread(self._celery.send_task, TASK, args=[job_id], queue=QUEUE, priority=WAITING)
        except KombuError as error:
            raise BrokerFailed(f"the trainer's queue does not take job {job_id}: {error}") from error

    async def tell_wish(self, job_id: str, wish: str) -> None:
        """The trainer reads it at every step boundary."""
        await self._redis.set(keys.control(job_id), wish)

    async def publish_state(self, job_id: str, state: JobState) -> None:
        """A state that the API itself brings about, as an event among the others."""
        event = JobEvent(kind="state", at_unix_s=time.time(), data={"state": state.value})
        await self._redis.xadd(keys.events_stream(job_id), {FIELD: encode(event)})
