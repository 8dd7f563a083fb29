"""One of the API processes on a database runs the loops; when it dies, another one takes over.

The lock ends with its holder: a file lock beside SQLite's file, or PostgreSQL's advisory lock on its own connection.
Two leaders at once do no harm (every action may happen twice), they only double the work.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.stdlib import BoundLogger

from services.api.sql.database import Database
from services.kit.tasks import Loop, ended, first_failure

ASK_AGAIN_S = 1.0
_KEY = 0x6769676C
"""Number of PostgreSQL's advisory lock."""

StillHeld = Callable[[], Awaitable[None]]
"""Raises when the lock may be lost."""


async def lead(database: Database, log: BoundLogger, *loops: Loop) -> None:
    """Run the loops whenever this process leads, for ever; a database that went away is asked again.

    Raises what else a loop raises.
    """
    while True:
        try:
            async with _lock(database) as still_held:
                log.info("leading")
                await _run(loops, still_held)
        except (DBAPIError, OSError) as error:
            if isinstance(error, ProgrammingError | IntegrityError | DataError):
                raise  # a defect of ours, not a database that went away
            log.warning("leadership_lost", error=repr(error))
            await asyncio.sleep(ASK_AGAIN_S)


async def _run(loops: tuple[Loop, ...], still_held: StillHeld) -> None:
    async def watch() -> None:
        while True:
            await asyncio.sleep(ASK_AGAIN_S)
            await still_held()

    tasks = [asyncio.create_task(loop()) for loop in (*loops, watch)]
    try:
        await first_failure(tasks)
    finally:
        await ended(tasks)


def _lock(database: Database) -> AbstractAsyncContextManager[StillHeld]:
    return _file_lock(database) if database.is_sqlite else _advisory_lock(database)


@asynccontextmanager
async def _file_lock(database: Database) -> AsyncIterator[StillHeld]:
    handle = os.open(f"{database.url.database}.leader", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(ASK_AGAIN_S)
        yield _forever
    finally:
        os.close(handle)


async def _forever() -> None:
    """A file lock is lost with the process only."""


@asynccontextmanager
async def _advisory_lock(database: Database) -> AsyncIterator[StillHeld]:
    async with database.connect() as connection:
        while not await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}):
            await asyncio.sleep(ASK_AGAIN_S)
        try:
            yield lambda: _ask(connection)
        finally:
            await connection.invalidate()  # closed, not given back to the pool: the lock goes with the session


async def _ask(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT 1"))
