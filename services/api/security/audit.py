"""The audit log: every attempt to change something, with its outcome, in SQL before the caller has the answer."""

from __future__ import annotations

import asyncio

from sqlalchemy import insert, select
from sqlalchemy.exc import SQLAlchemyError
from structlog.stdlib import BoundLogger

from services.api.sql.access_tables import AuditRow
from services.api.sql.database import Database


class AuditLog:
    """Entries that come together are committed together, so that the log does not slow submissions down."""

    def __init__(self, database: Database, log: BoundLogger) -> None:
        self._database, self._log = database, log
        self._batch: list[dict[str, object]] = []
        self._committing = asyncio.Lock()

    async def add(self, entry: dict[str, object]) -> None:
        """Returns when the entry (columns of `AuditRow`) is committed, or, with an error in the log, could not be."""
        batch = self._batch
        batch.append(entry)
        async with self._committing:
            if batch is not self._batch:  # whoever held the lock took it along
                return
            self._batch = []
            await self._commit(batch)

    async def _commit(self, batch: list[dict[str, object]]) -> None:
        try:
            async with self._database.write() as session:
                await session.execute(insert(AuditRow), batch)
        except (SQLAlchemyError, OSError) as error:  # the change is made; its caller must not be told otherwise
            self._log.error("audit_failed", error=repr(error), entries=batch)

    async def page(self, *, limit: int, before: int | None) -> list[AuditRow]:
        """At most `limit` entries, newest first, older than the entry `before` when given."""
        query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.id < before)
        async with self._database.read() as session:
            return list((await session.scalars(query)).all())
