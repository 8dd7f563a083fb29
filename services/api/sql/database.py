"""The SQL database behind the API: SQLite on one machine, PostgreSQL in a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from copy import copy
from typing import Self

import msgspec
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import QueuePool

from services.api.rest.caller import Caller
from services.api.sql.schema import migrate
from services.api.sql.scoping import ScopedSession, carried

_BUSY_MS = 15_000
"""How long a SQLite writer waits for another one."""
_CONNECTIONS = 16
_GIVE_BACK_S = 2.0
_MIGRATION_LOCK = 0x67696770
"""Key of PostgreSQL's advisory lock under which one process at a time migrates."""


class Database:
    """Sessions on one database.

    Args:
        url: SQLAlchemy URL with an async driver.
    """

    def __init__(self, url: str) -> None:
        self.revision = ""
        """The revision of the tables, once `migrate` has looked."""
        self._engine = create_async_engine(
            url,
            json_serializer=_json,
            json_deserializer=msgspec.json.decode,
            pool_size=_CONNECTIONS,
            max_overflow=0,  # a connection beyond the pool is opened for one use, and that costs more than to wait
        )
        if self.is_sqlite:
            event.listen(self._engine.sync_engine, "connect", _set_up_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)
        self._turn = asyncio.Lock() if self.is_sqlite else nullcontext()
        """SQLite has one writer; a writer that waits for it in SQLite sleeps up to 100 ms at a time, one that waits
        here does not."""
        self._caller: Caller | None = None
        self._readers, self._writers = (
            async_sessionmaker(engine, expire_on_commit=False, sync_session_class=ScopedSession)
            for engine in (self._engine, self._engine.execution_options(writes=True))
        )

    @property
    def is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    @property
    def url(self) -> URL:
        return self._engine.url

    def connect(self) -> AsyncConnection:
        """A connection to be kept for long, each statement a transaction of its own; use it as a context."""
        return self._engine.execution_options(isolation_level="AUTOCOMMIT").connect()

    async def migrate(self) -> None:
        """Bring the tables to this version's revision; of several processes one does it and the others wait.

        Raises:
            DatabaseIsNewer.
        """
        async with self._engine.execution_options(writes=True).begin() as connection:
            if not self.is_sqlite:  # SQLite's write lock is held from the transaction's first moment
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            self.revision = await connection.run_sync(migrate)

    def seen_by(self, caller: Caller) -> Self:
        """The same database, of which its sessions show what the caller sees."""
        view = copy(self)
        view._caller = caller
        return view

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A consistent view; nothing is committed."""
        async with self._readers(info=carried(self._caller)) as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """One transaction: committed at the end, rolled back when the block raises."""
        async with self._turn, self._writers(info=carried(self._caller)) as session, session.begin():
            yield session

    async def ping(self) -> None:
        """Raises sqlalchemy.exc.SQLAlchemyError when the database does not answer."""
        async with self._engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection; whoever was cancelled has a moment to give theirs back."""
        pool, deadline = self._engine.sync_engine.pool, asyncio.get_running_loop().time() + _GIVE_BACK_S
        while isinstance(pool, QueuePool) and pool.checkedout() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        await self._engine.dispose()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _set_up_sqlite(connection: DBAPIConnection, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late; `_begin_sqlite` says when
    cursor = connection.cursor()
    # FULL: what was acknowledged survives a power cut too; submissions share a transaction, so it costs little
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_BUSY_MS}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes the lock at once: a reader that turns writer later would fail instead of waiting.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
