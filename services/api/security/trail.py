"""Writes one entry to the audit log for every request that could change something."""

from __future__ import annotations

import time

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.rest.caller import Caller
from services.api.security.access import SESSIONS, is_safe
from services.api.security.parts import Security

_PATH_CHARACTERS = 256


class AuditTrail:
    """Writes the entry before the answer goes out. It stands outside of the guard: what that refuses is there too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_safe(scope["method"]) or _is_turn(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def send_logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                security: Security = scope["app"].state.container.security
                await security.audit.add(_entry(HTTPConnection(scope), security, message))
            await send(message)

        await self._app(scope, receive, send_logged)


def _is_turn(path: str) -> bool:
    """A turn of an outside agent changes nothing but its own episode, which the rollouts show."""
    return path.startswith(SESSIONS) and path.endswith(("/chat/completions", "/actions"))


def _entry(connection: HTTPConnection, security: Security, answer: Message) -> dict[str, object]:
    caller: Caller | None = connection.scope.get("state", {}).get("caller")
    path = connection.scope["path"].replace("\0", "\N{REPLACEMENT CHARACTER}")  # PostgreSQL keeps no NUL
    made = Headers(raw=answer["headers"]).get("location")
    return {
        "at_unix_s": time.time(),
        "actor": caller.name if caller else "unknown",
        "key_id": caller.key_id if caller else None,
        "project_id": caller.project_id if caller else None,
        "address": security.address(connection)[:64],
        "method": connection.scope["method"][:16],
        "path": path[:_PATH_CHARACTERS],
        "made": made[:_PATH_CHARACTERS] if made else None,
        "status": answer["status"],
    }
