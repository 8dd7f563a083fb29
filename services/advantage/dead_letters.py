"""Groups that can't be scored: after enough deliveries they are set aside with the cause, and the user is told."""

from __future__ import annotations

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.events import Warned, encoded
from services.kit.streams import FIELD, Entry
from services.ledger.ledger import ADVANTAGE


async def set_aside_when_hopeless(redis: Redis, job: str, entry: Entry, cause: str, max_deliveries: int) -> bool:
    """Move the entry to `<stream>:dead` once it was delivered `max_deliveries` times; else leave it pending.

    Returns:
        True when it was moved. A pending entry comes again after the reclaim time.
    """
    stream = keys.episodes_stream(job)
    pending = await redis.xpending_range(stream, ADVANTAGE, entry.id, entry.id, 1)
    if not pending or int(pending[0]["times_delivered"]) < max_deliveries:
        return False
    event = encoded(Warned(service="advantage", message=cause))
    async with redis.pipeline(transaction=True) as pipe:
        pipe.xadd(f"{stream}:dead", {FIELD: entry.payload, b"cause": cause, b"id": entry.id})
        pipe.xadd(keys.events_stream(job), {FIELD: event})
        pipe.xack(stream, ADVANTAGE, entry.id)
        pipe.xdel(stream, entry.id)
        await pipe.execute()
    return True
