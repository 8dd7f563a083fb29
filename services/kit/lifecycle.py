"""How a process lives: announce its address, beat, stop on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis

from services.kit.tasks import ended

HEARTBEAT_S = 2.0
HEARTBEAT_TTL_S = 8
"""An instance is dead when it missed three beats."""


def instance_name(service: str) -> str:
    """`<service>-<host>-<pid>`: unique among the live processes of one installation."""
    return f"{service}-{socket.gethostname()}-{os.getpid()}"


def stop_event() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets. Call it inside the running loop."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def announce(service: str, address: str | None, address_file: Path | None) -> None:
    """Say that the service is ready: one JSON line on stdout, and the same in `address_file`, written by rename."""
    line = json.dumps({"service": service, "address": address, "pid": os.getpid()})
    if address_file is not None:
        temporary = address_file.with_suffix(".tmp")
        temporary.write_text(line)
        temporary.replace(address_file)
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def heartbeat(redis: Redis, key: str, value: Callable[[], str]) -> AsyncIterator[None]:
    """Keep `key` alive with `value()` while the block runs; delete it at the end."""

    async def beat() -> None:
        while True:
            await redis.set(key, value(), ex=HEARTBEAT_TTL_S)
            await asyncio.sleep(HEARTBEAT_S)

    await redis.set(key, value(), ex=HEARTBEAT_TTL_S)
    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        await ended([task])
        await redis.delete(key)
