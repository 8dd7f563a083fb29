"""The access rule of every path. Unknown paths have one too, so that a new path is never open by mistake."""

from __future__ import annotations

from enum import Enum

from services.contracts.rest.access import Scope


class Door(Enum):
    """Paths that want no scope."""

    PUBLIC = "public"
    """Anybody: probes, and the way in."""
    KNOWN = "known"
    """Anybody with a valid key, whatever its scopes."""


SESSIONS = "/v1/sessions/"
"""Outside agents come with the key of their session, which has no scope; the routes look at whose it is."""
LOGIN_PATH, LOGOUT_PATH = "/login", "/logout"
_PUBLIC = frozenset({"/healthz", LOGIN_PATH, LOGOUT_PATH})
_KNOWN = frozenset({"/v1/whoami", "/openapi.json"})
_ADMINISTRATION = frozenset({"keys", "projects", "audit"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def access(method: str, path: str) -> Scope | Door:
    """The scope that a caller of this path must hold. Without a rule it is `read` to look and `submit` to change."""
    if path in _PUBLIC:
        return Door.PUBLIC
    if path in _KNOWN:
        return Door.KNOWN
    if path.startswith(SESSIONS):
        return Door.KNOWN
    version, _, resource = path.removeprefix("/").partition("/")
    if version == "v1" and resource.partition("/")[0] in _ADMINISTRATION:
        return Scope.ADMIN
    return Scope.READ if is_safe(method) else Scope.SUBMIT


def is_safe(method: str) -> bool:
    """Whether the method only looks."""
    return method in _SAFE_METHODS
