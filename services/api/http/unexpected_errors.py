"""The last resort: an unexpected error becomes a problem without internal details, and a line in the log.

A database, Redis or a disk that refuses for a while is no defect: the caller is told its cause and may try again.
"""

from __future__ import annotations

import os
from socket import gaierror
from types import MappingProxyType

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.stdlib import BoundLogger

from services.api.rest.problems import Problem, answer
from services.kit.files import NO_ROOM

_SQLITE = MappingProxyType(
    {
        5: "another process holds its lock",
        6: "another connection holds its lock",
        8: "it is read-only",
        10: "its disk does not read or write",
        13: "its disk is full",
        14: "its file cannot be opened",
    }
)
"""SQLite's primary result code -> what it means."""
_POSTGRESQL = MappingProxyType(
    {
        "08": "it does not answer",
        "25006": "it is read-only",
        "53": "it has no room",
        "57P": "it is starting or shutting down",
    }
)
"""How a SQLSTATE begins -> what it means."""
_RETRY_S = 5


class Defects:
    """Stands outside of the guard, whose defects it answers too, and inside of what audits answers and adds headers."""

    def __init__(self, app: ASGIApp, *, log: BoundLogger) -> None:
        self._app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def send_noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception as error:
            if scope["type"] != "http" or begun:
                raise
            if (refusal := refused_for_now(error)) is not None:
                self._log.warning("request_refused", path=scope["path"], cause=refusal.detail, error=str(error))
            else:
                self._log.error("request_failed", path=scope["path"], exc_info=error)
                refusal = Problem(500, "the request failed; the log of the API has the cause")
            await answer(refusal)(scope, receive, send)


def refused_for_now(error: Exception) -> Problem | None:
    """503 for an error of the database, of Redis or of the API's disk that goes away by itself or with more room; else
    None. A database to which no connection can be made raises the driver's own errors."""
    subject, cause = "the database", None
    if isinstance(error, DBAPIError):
        cause = _database_cause(error)
    elif isinstance(error, RedisConnectionError | RedisTimeoutError):
        subject, cause = "Redis", str(error).rstrip(".") or "it does not answer"
    elif isinstance(error, NoConnectionLeft):
        cause = "every connection to it is taken"
    elif isinstance(error, ConnectionError | TimeoutError | gaierror):
        cause = "it does not answer"
    elif state := _sqlstate(error):
        cause = _postgresql_cause(state)
    elif isinstance(error, OSError) and error.errno in NO_ROOM:
        subject, cause = "the disk of the API", os.strerror(error.errno).lower()
    if cause is None:
        return None
    sentence = f"{subject} refuses the request: {cause}; nothing was stored, try again later"
    return Problem(503, sentence, headers={"Retry-After": str(_RETRY_S)})


def _database_cause(error: DBAPIError) -> str | None:
    if found := _postgresql_cause(_sqlstate(error.orig)):
        return found
    if error.connection_invalidated:
        return "it does not answer"
    return _SQLITE.get(getattr(error.orig, "sqlite_errorcode", 0) & 0xFF)


def _postgresql_cause(state: str) -> str | None:
    return next((words for begin, words in _POSTGRESQL.items() if state.startswith(begin)), None)


def _sqlstate(error: BaseException | None) -> str:
    return str(getattr(error, "sqlstate", None) or "")
