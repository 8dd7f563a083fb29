"""Sets up a session with an API, for both clients."""

from __future__ import annotations

from typing import TypedDict

import httpx

from gigpo.client.errors import BadInput

_LAST_PORT = 65_535


class SessionArguments(TypedDict):
    """Arguments of httpx.Client and httpx.AsyncClient."""

    base_url: httpx.URL
    headers: dict[str, str]
    timeout: httpx.Timeout


def session_arguments(url: str, key: str | None, timeout_s: float) -> SessionArguments:
    """How a session begins. Raises BadInput for what is no address."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise BadInput(f"want the address of an API such as http://127.0.0.1:8400, got {url!r}: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host or (parsed.port or 0) > _LAST_PORT:
        raise BadInput(f"want the address of an API such as http://127.0.0.1:8400, got {url!r}")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": parsed, "headers": headers, "timeout": httpx.Timeout(timeout_s)}
