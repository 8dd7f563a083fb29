"""What the user of a job is warned of, as an event of the job."""

from __future__ import annotations

from functools import partial

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.events import Warned, encoded
from services.kit.streams import Refused, append


async def warn(redis: Redis, job: str, service: str, message: str) -> None:
    """Show a warning of `service` to the job's user."""
    await append(redis, keys.events_stream(job), encoded(Warned(service=service, message=message)))


def warner(redis: Redis, job: str, service: str) -> Refused:
    """What takes a message and warns the job's user of it."""
    return partial(warn, redis, job, service)
