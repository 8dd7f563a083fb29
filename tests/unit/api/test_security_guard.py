"""The guard in front of a handler that counts what it lets through."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from fastapi.responses import Response

from services.api.security.audit import AuditLog
from services.api.security.authenticator import Authenticator
from services.api.security.guard import Guard
from services.api.security.parts import Security
from services.api.security.rates import Rates
from services.api.security.sessions import COOKIE, Sessions
from services.api.sql.database import Database

KEY = "0f6c1d92b7e84a35c1d0e7f2"
OURS = {"host": "gigpo.example", "origin": "https://gigpo.example"}


def security(*, keys_wanted: bool) -> Security:
    database = Database("sqlite+aiosqlite:////nowhere/none.sqlite")  # never asked: the key is the settings'
    return Security(
        keys_wanted=keys_wanted,
        authenticator=Authenticator(database, KEY if keys_wanted else None, structlog.get_logger()),
        sessions=Sessions(b"s" * 32, KEY),
        rates=Rates(
            structlog.get_logger(), per_key="100/hour", per_address="100/hour", failures_per_address="100/hour"
        ),
        audit=AuditLog(database, structlog.get_logger()),
    )


def session_cookie(parts: Security) -> str:
    answer = Response()
    parts.sessions.begin(answer, None, secure=False)
    return f"{COOKIE}={answer.headers['set-cookie'].partition('=')[2].partition(';')[0]}"


async def passed(parts: Security, method: str, path: str = "/", **headers: str) -> tuple[bool, list[dict[str, Any]]]:
    """Whether the handler was reached, and what was sent."""
    reached, sent = [], []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        reached.append(True)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("10.0.0.9", 1),
        "app": SimpleNamespace(state=SimpleNamespace(container=SimpleNamespace(security=parts))),
    }
    await Guard(app, max_body_bytes=1024)(scope, lambda: None, send)  # type: ignore[arg-type,return-value]
    return bool(reached), sent


@pytest.mark.parametrize(
    ("with_cookie", "headers", "expected"),
    [
        (True, OURS, True),
        (True, {**OURS, "origin": "https://evil.example"}, False),
        (True, {"host": "gigpo.example", "sec-fetch-site": "cross-site"}, False),
        (False, OURS, False),
    ],
)
async def test_a_change_needs_a_session_and_a_page_of_ours(
    with_cookie: bool, headers: dict[str, str], expected: bool
) -> None:
    parts = security(keys_wanted=True)
    cookie = {"cookie": session_cookie(parts)} if with_cookie else {}
    assert (await passed(parts, "POST", "/v1/jobs", **headers, **cookie))[0] == expected


async def test_an_open_installation_lets_its_own_pages_change_things_and_no_others() -> None:
    parts = security(keys_wanted=False)
    assert (await passed(parts, "POST", host="localhost:1", origin="http://localhost:1"))[0]
    assert not (await passed(parts, "POST", host="localhost:1", origin="http://evil.example"))[0]
    assert not (await passed(parts, "POST", host="evil.example", origin="http://evil.example"))[0]


async def test_a_key_in_a_header_opens_what_a_page_could_not() -> None:
    parts = security(keys_wanted=True)
    assert (await passed(parts, "GET", "/v1/jobs", authorization=f"Bearer {KEY}", origin="https://evil.example"))[0]
    reached, sent = await passed(parts, "GET", "/v1/jobs", authorization=f"Bearer {KEY[:-1]}x")
    assert (reached, sent[0]["status"]) == (False, 401)


@pytest.mark.parametrize("length", ["1025", "-1", "1e3", "٣"])
async def test_a_length_that_is_too_much_or_none_is_refused(length: str) -> None:
    parts = security(keys_wanted=False)
    reached, sent = await passed(parts, "GET", "/v1/jobs", **{"host": "localhost", "content-length": length})
    assert (reached, sent[0]["status"]) == (False, 413)
