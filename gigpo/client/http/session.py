"""How a session with an API is set up, for both clients."""

from __future__ import annotations

from typing import Any

import httpx

from gigpo.client.errors import BadInput


def session_arguments(url: str, key: str | None, timeout_s: float) -> dict[str, Any]:
    """Arguments of httpx.Client and httpx.AsyncClient. Raises BadInput for what is no address."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise BadInput(f"want the address of an API such as http://127.0.0.1:8400, got {url!r}: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise BadInput(f"want the address of an API such as http://127.0.0.1:8400, got {url!r}")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": parsed, "headers": headers, "timeout": httpx.Timeout(timeout_s)}
