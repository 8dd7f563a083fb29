"""Refuses requests that other sites make in a user's name: forged requests, and rebound host names."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers

from services.api.rest.problems import Problem
from services.api.security.loopback import is_loopback


def forged(headers: Headers) -> Problem | None:
    """403 for a request that a browser sends for another site than ours; programs send neither header."""
    origin = headers.get("origin")
    if origin is None:
        ours = headers.get("sec-fetch-site", "none") in {"none", "same-origin"}
    else:
        _, separator, host = origin.partition("://")
        ours = bool(separator) and host == headers.get("host")
    return None if ours else Problem(403, f"want a request from our own pages, got one from {(origin or '?')[:200]!r}")


def rebound(headers: Headers) -> Problem | None:
    """403 for a loopback address under another name: a site whose name was pointed at this machine."""
    host = headers.get("host", "")
    if is_loopback(_host_name(host)):
        return None
    return Problem(403, f"without keys want a loopback name such as localhost in Host, got {host[:200]!r}")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
