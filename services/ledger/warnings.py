"""What the user of a job is warned of, as an event of the job."""

from __future__ import annotations

import time
from functools import partial

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import JobEvent, encode
from services.kit.streams import Refused, append


async def warn(redis: Redis, job: str, service: str, message: str) -> None:
    """Show a warning of `service` to the job's user."""
    event = JobEvent(kind="warning", at_unix_s=time.time(), data={"service": service, "message": message})
    await append(redis, keys.events_stream(job), encode(event))


def warner(redis: Redis, job: str, service: str) -> Refused:
    """What takes a message and warns the job's user of it."""
    return partial(warn, redis, job, service)
