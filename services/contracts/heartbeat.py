"""The heartbeat of a live service instance: JSON under `keys.service_heartbeat`."""

from __future__ import annotations

import msgspec


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a service is alive."""

    service: str
    """`rollout`, `inference`, `advantage` or `trainer`."""
    instance: str
    """Unique among the live instances of the service."""
    pid: int | None = None
    """Id of the instance's process on its machine."""
    detail: dict[str, object] = {}
    """Its work: each service's own words."""
