"""The guard before every handler. It checks in this order: forgery, rate, identity, rights, and the form of the body.

Plain ASGI, so that streams pass through. Handlers find the caller in `request.state.caller`.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from contextlib import suppress
from hashlib import sha256
from urllib.parse import urlencode

from fastapi.responses import RedirectResponse, Response
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.api.rest.caller import THIS_MACHINE, Caller
from services.api.rest.problems import Problem, answer
from services.api.security.access import LOGIN_PATH, SESSIONS, Door, access, is_safe
from services.api.security.origin import forged, rebound
from services.api.security.parts import Security
from services.contracts.agents import KEY_PREFIX

LOOK_AGAIN_S = 1.0
"""How often the key of an open stream is looked at; the authenticator may believe in it for some seconds more."""


class Guard:
    """Lets a request through with its caller, or answers it."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app, self._max_body_bytes = app, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        security: Security = scope["app"].state.container.security
        state: MutableMapping[str, object] = scope.setdefault("state", {})
        state["caller"] = None
        try:
            caller = state["caller"] = await _caller(connection, security)
            await _admit(connection, security, caller)
            self._check_body(connection)
        except Problem as problem:
            await _refuse(connection, problem)(scope, receive, send)
            return
        await self._app(scope, _while_known(connection, security, receive), send)

    def _check_body(self, connection: HTTPConnection) -> None:
        headers = connection.headers
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(415, f"want a body that is not compressed, got {headers['content-encoding'][:64]!r}")
        length = headers.get("content-length", "0")  # a body without one is counted while it is read
        if not length.isdecimal() or int(length) > self._max_body_bytes:
            raise Problem(413, f"want a body of at most {self._max_body_bytes} bytes, got {length[:32]}")


async def _caller(connection: HTTPConnection, security: Security) -> Caller | None:
    """The caller; None: nobody that we know. Raises Problem for a wrong key and for what no caller may send."""
    shows_key, address = bool(connection.headers.get("authorization")), security.address(connection)
    if security.keys_wanted:
        await security.rates.count_address(address)
    if not shows_key:
        _check_origin(connection, security)
    found = await _known(connection, security)
    if found is None and shows_key:
        await security.rates.count_failure(address)
        raise _unauthorized("want a valid API key, got one that is unknown, expired or revoked")
    return found


async def _known(connection: HTTPConnection, security: Security) -> Caller | None:
    """The owner of this key, session or machine now; None: nobody."""
    if shown := connection.headers.get("authorization"):
        scheme, _, token = shown.partition(" ")
        if (
            scheme.lower() == "bearer"
            and token.startswith(KEY_PREFIX)
            and connection.scope["path"].startswith(SESSIONS)
        ):
            return _agent(token.strip())
        return await security.authenticator.by_token(token.strip()) if scheme.lower() == "bearer" else None
    valid, key_id = security.sessions.read(connection)
    if valid and (found := await security.authenticator.by_key_id(key_id)) is not None:
        return found
    return None if security.keys_wanted else THIS_MACHINE


def _agent(session_key: str) -> Caller:
    """Whoever claims to have a session's key. Its digest names it, so that each is counted for itself."""
    name = f"outside agent {sha256(session_key.encode(errors='surrogateescape')).hexdigest()[:12]}"
    return Caller(name, frozenset(), project_id="", session_key=session_key)


def _while_known(connection: HTTPConnection, security: Security, receive: Receive) -> Receive:
    """`receive` that says the client went away once its key or session has ended: streams end with it."""
    caller = connection.scope["state"]["caller"]
    if caller is None or caller.key_id is None:
        return receive

    async def receive_while_known() -> Message:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_S):
                    return await receive()
            if await _known(connection, security) != caller:
                return {"type": "http.disconnect"}

    return receive_while_known


def _check_origin(connection: HTTPConnection, security: Security) -> None:
    """Refuse calls that another site can make a browser send; only the browser vouches for a caller without a key."""
    refusal = None if security.keys_wanted else rebound(connection.headers)
    if refusal is None and not is_safe(connection.scope["method"]):
        refusal = forged(connection.headers)
    if refusal is not None:
        raise refusal


async def _admit(connection: HTTPConnection, security: Security, caller: Caller | None) -> None:
    wanted = access(connection.scope["method"], connection.scope["path"])
    if wanted == Door.PUBLIC:
        return
    if caller is None:
        raise _unauthorized("want an API key in `Authorization: Bearer`, or a session")
    if not isinstance(wanted, Door) and not caller.may(wanted):
        held = ", ".join(sorted(caller.scopes)) or "none"
        raise Problem(403, f"want a key with the scope {wanted}, got one with {held}")
    if security.keys_wanted:
        await security.rates.count_key(caller.key_id or caller.name)


def _unauthorized(sentence: str) -> Problem:
    return Problem(401, sentence, headers={"WWW-Authenticate": "Bearer"})


def _refuse(connection: HTTPConnection, problem: Problem) -> ASGIApp:
    """The refusal as a problem, or as the way to the login for somebody who looks at a page."""
    path, wants_page = connection.scope["path"], "text/html" in connection.headers.get("accept", "")
    if problem.status == 401 and wants_page and not path.startswith("/v1/"):
        response: Response = RedirectResponse(f"{LOGIN_PATH}?{urlencode({'next': path})}", 303)
        return response
    return answer(problem)
