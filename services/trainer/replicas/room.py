"""Checks that an inference replica is free for a job: a replica serves one job at a time until that job ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.policy import ReplicaStatus
from services.contracts.states import Command
from services.kit.values import string_value
from services.ledger.active_jobs import active_jobs
from services.ledger.presence import present_names
from services.trainer.errors import NoReplicaFree
from services.trainer.events import Events
from services.trainer.replicas.live import live_replicas

LOOK_S = 0.5


async def busy_elsewhere(redis: Redis, job: str) -> str | None:
    """Why no live replica can serve the job: each one serves another active job. None: one can, or none is live.

    A replica that shares its job with others goes over to a job that has none.
    """
    replicas = await _replicas(redis)
    active = await active_jobs(redis)
    others = {replica.job_id for replica in replicas} & (active - {job})
    if not replicas or any(replica.job_id not in others for replica in replicas) or len(replicas) > len(active - {job}):
        return None
    return f"waits for an inference replica: all {len(replicas)} serve other jobs"


async def lack_of_room(redis: Redis, job: str) -> str | None:
    """Why no replica can serve the job now: see `busy_elsewhere`, or none is live. None: one can."""
    if not await _replicas(redis):
        return "waits for an inference replica: none is running"
    return await busy_elsewhere(redis, job)


async def check_room(redis: Redis, job: str) -> None:
    """Raises NoReplicaFree: the live ones serve other jobs. One that serves this job may be on its way back."""
    if (reason := await busy_elsewhere(redis, job)) is not None:
        raise NoReplicaFree(reason)


async def check_capacity(redis: Redis, job: str) -> None:
    """Check, for a job that waited as long as it allows, that nothing which it needs is missing. Raises NoReplicaFree:
    a service is missing, so it waits on.

    That is no fault of the job: one who serves it, plays its groups or scores them is still to come.
    """
    if (reason := await lack_of_room(redis, job)) is not None:
        raise NoReplicaFree(reason)
    for service in ("rollout", "advantage"):
        if not await present_names(redis, service):
            raise NoReplicaFree(f"waits for the {service} service: none is running")


async def _replicas(redis: Redis) -> list[ReplicaStatus]:
    return [one for one in (await live_replicas(redis)).values() if one.state != "draining"]


async def wait_for_room(redis: Redis, job: str, until: Callable[[], bool]) -> None:
    """Wait until a replica can serve the job, or its owner wants something else of it than to run.

    Raises:
        NoReplicaFree: there is still no room, and `until` says that it is time to go.
    """
    events = Events(redis, job)
    while (reason := await lack_of_room(redis, job)) is not None:
        if await string_value(redis, keys.control(job)) not in (None, Command.RUN.value.encode()):
            return
        await events.queued(reason)
        if until():
            raise NoReplicaFree(reason)
        await asyncio.sleep(LOOK_S)
