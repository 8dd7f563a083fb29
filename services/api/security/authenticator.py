"""Finds the caller of a key: argon2 once per key and process, one database query per key in five seconds at most."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import math
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from structlog.stdlib import BoundLogger

from services.api.rest.caller import SETTINGS_KEY, Caller
from services.api.security.keys import parse_key, secret_matches
from services.api.sql.access_tables import KeyRow
from services.api.sql.database import Database
from services.contracts.rest.access import Scope

REVOKED_WITHIN_S = 5.0
"""Longest time for which another process honours a key that was revoked; this process stops at once."""
LAST_USED_STEP_S = 60.0
"""How exactly `last_used_unix_s` is kept."""


@dataclass(frozen=True)
class _Known:
    """The database's answer about a key, and until when that is believed (monotonic clock)."""

    caller: Caller | None
    """None: revoked or expired."""
    secret_hash: str
    until: float


class Authenticator:
    """Recognises keys.

    Args:
        settings_key: the administrator's key from the settings; None: there is none.
    """

    def __init__(self, database: Database, settings_key: str | None, log: BoundLogger) -> None:
        self._database, self._log = database, log
        self._pepper = secrets.token_bytes(32)
        self._settings_digest = None if settings_key is None else self._digest(settings_key)
        self._known: dict[str, _Known] = {}
        self._verified: dict[str, bytes] = {}
        self._hashing = asyncio.Semaphore(1)  # a flood of wrong keys gets one core and 19 MiB, not all

    async def by_token(self, token: str) -> Caller | None:
        """The caller of a key as it was presented; None: nobody's, expired, or revoked."""
        digest = self._digest(token)
        if self._settings_digest is not None and hmac.compare_digest(digest, self._settings_digest):
            return SETTINGS_KEY
        parsed = parse_key(token)
        if parsed is None:
            return None
        key_id, secret = parsed
        known = await self._look_up(key_id)
        if not await self._has_secret(key_id, secret, digest, known):
            return None
        return known.caller if known else None

    async def by_key_id(self, key_id: str | None) -> Caller | None:
        """The caller of a key that was verified before, for sessions; None is the key of the settings."""
        if key_id is None:
            return SETTINGS_KEY if self._settings_digest is not None else None
        known = await self._look_up(key_id)
        return known.caller if known else None

    def forget(self, key_id: str) -> None:
        """The key was changed: ask the database at its next use."""
        self._known.pop(key_id, None)

    async def _has_secret(self, key_id: str, secret: str, digest: bytes, known: _Known | None) -> bool:
        if self._is_verified(key_id, digest):
            return True
        async with self._hashing:
            if self._is_verified(key_id, digest):  # stored by a request that came at the same time
                return True
            matches = await asyncio.to_thread(secret_matches, known.secret_hash if known else None, secret)
        if matches:
            self._verified[key_id] = digest
        return matches

    def _is_verified(self, key_id: str, digest: bytes) -> bool:
        return hmac.compare_digest(self._verified.get(key_id, b""), digest)

    async def _look_up(self, key_id: str) -> _Known | None:
        known = self._known.get(key_id)
        if known is None or known.until < time.monotonic():
            async with self._database.read() as session:
                row = await session.get(KeyRow, key_id)
            if row is None:
                return None
            known = _Known(_caller(row), row.secret_hash, time.monotonic() + _believed_s(row))
            self._known[key_id] = known
            if known.caller and time.time() - (row.last_used_unix_s or 0.0) > LAST_USED_STEP_S:
                await self._note_use(key_id)
        return known

    async def _note_use(self, key_id: str) -> None:
        used = update(KeyRow).where(KeyRow.id == key_id).values(last_used_unix_s=time.time())
        try:
            async with self._database.write() as session:
                await session.execute(used)
        except SQLAlchemyError as error:  # the key is valid all the same
            self._log.warning("key_use_not_noted", key=key_id, error=repr(error))

    def _digest(self, token: str) -> bytes:
        return hashlib.blake2b(token.encode(errors="surrogateescape"), key=self._pepper, digest_size=32).digest()


def _believed_s(row: KeyRow) -> float:
    left_s = math.inf if row.expires_unix_s is None else row.expires_unix_s - time.time()
    return min(REVOKED_WITHIN_S, left_s) if left_s > 0 else REVOKED_WITHIN_S


def _caller(row: KeyRow) -> Caller | None:
    if row.revoked_unix_s is not None or (row.expires_unix_s is not None and row.expires_unix_s <= time.time()):
        return None
    return Caller(row.name, frozenset(Scope(one) for one in row.scopes.split()), row.project_id, row.id)
