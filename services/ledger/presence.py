"""Live service instances: each publishes heartbeats, and the API and the trainer read them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.heartbeat import Heartbeat
from services.kit.lifecycle import heartbeat
from services.kit.values import queue_string, texts


@asynccontextmanager
async def present(
    redis: Redis, service: str, instance: str, detail: Callable[[], dict[str, object]]
) -> AsyncIterator[None]:
    """Tell that this process is alive, with its `detail`, while the block runs. See `heartbeat` for its errors."""

    def said() -> str:
        beat = Heartbeat(service=service, instance=instance, pid=os.getpid(), detail=detail())
        return msgspec.json.encode(beat).decode()

    async with heartbeat(redis, keys.service_heartbeat(service, instance), said):
        yield


async def present_names(redis: Redis, service: str = "*") -> set[str]:
    """The keys of the live instances of one service or of all."""
    pattern = keys.service_heartbeat(service, "*")
    return set(texts([name async for name in redis.scan_iter(pattern, count=1_000)]))


async def present_instances(redis: Redis, service: str = "*") -> list[Heartbeat]:
    """The live instances of one service or of all, by service and name; a heartbeat that cannot be read is left out."""
    names = await present_names(redis, service)
    async with redis.pipeline(transaction=False) as pipe:
        for name in names:
            queue_string(pipe, name)
        beats = [beat for answer in await pipe.execute() for beat in answer]
    found = []
    for beat in beats:
        with suppress(msgspec.DecodeError, ValueError, RecursionError):
            found.append(msgspec.json.decode(beat or b"", type=Heartbeat))
    return sorted(found, key=lambda one: (one.service, one.instance))
