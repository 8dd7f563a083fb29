"""The health of the installation: services, queues, and the ledger's balance."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError

from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Parts
from services.api.http.health import health
from services.api.http.system import system_view
from services.api.rest.caller import Asking

router = APIRouter(route_class=PageRoute, include_in_schema=False)

PATIENCE_S = 4.0
"""Longest wait for Redis; the health checks have ended by then and say what is wrong."""


@router.get("/system")
async def system(request: Request, parts: Parts, caller: Asking) -> Response:
    """Asked anew with every look; the page asks again while it is open."""
    try:
        found = await asyncio.wait_for(system_view(parts, caller), PATIENCE_S)
    except (RedisError, OSError, TimeoutError):
        found = None
    checks = (
        found.health
        if found
        else await health(parts.database, parts.redis, parts.environments, parts.settings.expected_services)
    )
    return await page(request, "system.html", health=checks, system=found)
