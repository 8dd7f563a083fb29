"""The live inference replicas and their status."""

from __future__ import annotations

from contextlib import suppress

from pydantic import ValidationError
from redis.asyncio import Redis

from services.contracts.policy import ReplicaStatus
from services.ledger.replicas import ReplicaRows


async def live_replicas(redis: Redis) -> dict[str, ReplicaStatus]:
    """Name -> status of every replica whose heart beats; one of another version, which cannot be read, is left out."""
    live = {}
    for name, row in (await ReplicaRows(redis).read()).items():
        if row.alive:
            with suppress(ValidationError):
                live[name] = ReplicaStatus.model_validate_json(row.status)
    return live


async def any_starts(redis: Redis, job: str) -> bool:
    """Whether a live replica starts its engine for the job: it ends a start that hangs, or fails again, by itself."""
    return any(one.job_id == job and one.state == "starting" for one in (await live_replicas(redis)).values())
