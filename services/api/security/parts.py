"""The objects that the guard uses, created when the process starts."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import or_, select
from starlette.requests import HTTPConnection
from structlog.stdlib import BoundLogger

from services.api.security.audit import AuditLog
from services.api.security.authenticator import Authenticator
from services.api.security.rates import Rates
from services.api.security.sessions import Sessions, signing_secret
from services.api.settings import Settings
from services.api.sql.access_tables import KeyRow
from services.api.sql.database import Database


@dataclass(frozen=True)
class Security:
    """The parts of one API process that decide who may do what."""

    keys_wanted: bool
    """False: everybody who reaches the loopback address is the administrator."""
    authenticator: Authenticator
    sessions: Sessions
    rates: Rates
    audit: AuditLog

    def address(self, connection: HTTPConnection) -> str:
        """The origin of a request."""
        return connection.client.host if connection.client else "unknown"


class NoAdministrator(Exception):
    """Keys are required, and there is no administrator who could make one."""


async def want_administrator(settings: Settings, database: Database) -> None:
    """Make sure that somebody can make keys, where every call wants one. Raises NoAdministrator."""
    if settings.keys_wanted and settings.key_text is None and not await _has_admin_key(database):
        raise NoAdministrator(
            "API_REQUIRE_KEYS needs a key with the scope admin in the database, but it has none: "
            "make one while the installation is open, or set API_KEY or API_KEY_FILE"
        )


def security_of(settings: Settings, database: Database, log: BoundLogger) -> Security:
    """The parts for these settings."""
    key = settings.key_text
    return Security(
        keys_wanted=settings.keys_wanted,
        authenticator=Authenticator(database, key, log),
        sessions=Sessions(signing_secret(settings.data_dir), key),
        rates=Rates(
            log,
            per_key=settings.rate_per_key,
            per_address=settings.rate_per_address,
            failures_per_address=settings.rate_wrong_keys,
            redis_url=settings.broker if settings.rate_storage == "redis" else None,
        ),
        audit=AuditLog(database, log),
    )


async def _has_admin_key(database: Database) -> bool:
    alive = KeyRow.revoked_unix_s.is_(None), or_(KeyRow.expires_unix_s.is_(None), KeyRow.expires_unix_s > time.time())
    async with database.read() as session:
        found = await session.scalars(select(KeyRow.scopes).where(*alive))
        return any("admin" in scopes.split() for scopes in found)
