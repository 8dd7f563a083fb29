"""The life of a service process: announce its address, send heartbeats, stop on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.kit.files import NO_ROOM, whole_file
from services.kit.tasks import beside

log = structlog.get_logger("kit")

HEARTBEAT_S = 2.0
HEARTBEAT_TTL_S = 8
"""An instance is dead when it missed three beats."""


def instance_name(service: str, pid: int | None = None) -> str:
    """`<service>-<host>-<pid>`: unique among the live processes of one installation; by default this process's."""
    return f"{service}-{socket.gethostname()}-{pid or os.getpid()}"


def stop_event() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets. Call it inside the running loop."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def announce(service: str, address: str | None, address_file: Path | None, metrics: str | None = None) -> None:
    """Say that the service is ready: one JSON line on stdout, and the same in `address_file`, written by rename.

    A disk without room leaves the file as it is; the service is ready all the same.

    Args:
        metrics: URL of its side port.
    """
    line = json.dumps({"service": service, "address": address, "pid": os.getpid(), "metrics": metrics})
    if address_file is not None:
        try:
            with whole_file(address_file) as arriving:
                arriving.write_text(line)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            log.error("the address file cannot be written", file=str(address_file), error=str(error))
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def heartbeat(redis: Redis, key: str, value: Callable[[], str]) -> AsyncIterator[None]:
    """Keep `key` alive with `value()` while the block runs; delete it at the end.

    A beat that cannot be made ends the block with its cause; only while Redis is away, when nobody could read it
    either, it is tried again.
    """

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await redis.set(key, value(), ex=HEARTBEAT_TTL_S)
            except (RedisError, OSError) as error:
                log.error("Redis did not accept the heartbeat", error=repr(error))

    await redis.set(key, value(), ex=HEARTBEAT_TTL_S)
    try:
        async with beside(beat):
            yield
    finally:
        with suppress(RedisError, OSError, TimeoutError):  # it ends by its time to live
            async with asyncio.timeout(HEARTBEAT_S):
                await redis.delete(key)
