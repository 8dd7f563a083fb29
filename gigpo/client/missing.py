"""The packages that an installation of the client alone lacks, and how to get them."""

from __future__ import annotations

import traceback

OURS = frozenset({"gigpo", "gigpo_core", "gigpo_proto", "services"})
_EXTRAS = frozenset({"api", "env", "rollout", "inference", "advantage", "trainer"})
"""Services whose packages have an extra of the same name."""
_ALL = "embedded"


def missing_package(error: ModuleNotFoundError) -> str | None:
    """Which package a command wants and which extra brings it; None: the module is one of ours, and the error a bug."""
    package = (error.name or "").partition(".")[0]
    if not package or package in OURS:
        return None
    return f"this needs the package {package}, which is not installed: {how_to_install(_extra(error))}"


def how_to_install(extra: str = _ALL) -> str:
    """The command that installs a part of the platform."""
    return f"pip install 'gigpo-platform[{extra}]'"


def _extra(error: ModuleNotFoundError) -> str:
    """The extra of the service whose code wanted the package."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        package, _, rest = str(frame.f_globals.get("__name__", "")).partition(".")
        service = rest.partition(".")[0]
        if package == "services" and service in _EXTRAS:
            return service
    return _ALL
