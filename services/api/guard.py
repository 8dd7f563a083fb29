"""Before any handler: the key, and bodies of bounded and declared length. Plain ASGI, so that streams pass through."""

from __future__ import annotations

import hashlib
import hmac

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.problems import MEDIA_TYPE, Problem

_OPEN_PATHS = frozenset({"/healthz"})
"""Probes have no key."""


class Guard:
    """Answers 401, 411 and 413 itself and lets everything else through.

    Args:
        key: None lets everybody in; settings see to it that only this machine can call then.
    """

    def __init__(self, app: ASGIApp, *, key: str | None, max_body_bytes: int) -> None:
        self._app = app
        self._wanted = None if key is None else _digest(key)
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (problem := self._refusal(scope["path"], Headers(scope=scope))):
            answer = JSONResponse(problem.body(), problem.status, headers=problem.headers, media_type=MEDIA_TYPE)
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, path: str, headers: Headers) -> Problem | None:
        if self._wanted is not None and path not in _OPEN_PATHS:
            scheme, _, key = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(_digest(key), self._wanted):
                return Problem(401, "want a valid API key", headers={"WWW-Authenticate": "Bearer"})
        if "transfer-encoding" in headers:
            return Problem(411, "want a Content-Length, got a chunked body")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._max_body_bytes:
            return Problem(413, f"want a body of at most {self._max_body_bytes} bytes, got {length}")
        return None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
