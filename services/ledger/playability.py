"""Records which rollout workers can play a job: workers refuse or accept it, and the trainer reads their reasons."""

from __future__ import annotations

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.events import LONGEST_MESSAGE
from services.kit.values import drop_field, hash_value, put_field, texts
from services.ledger.presence import present_names
from services.ledger.warnings import KEEP_S


async def refuse_job(redis: Redis, job: str, worker: str, cause: str) -> None:
    """A rollout worker says that the job's own files and settings make it unplayable."""
    await put_field(redis, keys.playing_refusals(job), worker, cause[:LONGEST_MESSAGE])
    await redis.expire(keys.playing_refusals(job), KEEP_S)


async def accept_job(redis: Redis, job: str, worker: str) -> None:
    """The worker plays the job: whatever it said before is over."""
    await drop_field(redis, keys.playing_refusals(job), worker)


async def why_unplayable(redis: Redis, job: str) -> str | None:
    """The cause, where every live rollout worker refused the job; None: one may play it."""
    refusals = await hash_value(redis, keys.playing_refusals(job))
    if not refusals:
        return None
    refused = {keys.service_heartbeat("rollout", worker) for worker in texts(refusals)}
    live = await present_names(redis, "rollout")
    return None if live - refused else next(iter(refusals.values())).decode(errors="replace")
