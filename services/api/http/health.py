"""The health check: queries every dependency, so that it tells whether the installation can run a job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

from redis.asyncio import Redis

from services.api.jobs.environments import EnvironmentCatalogue
from services.api.rest.problems import Problem
from services.api.sql.database import Database
from services.contracts import keys
from services.contracts.rest.catalogue import Health
from services.ledger.presence import present_names

TIMEOUT_S = 3.0
"""Longest one check may take."""


async def health(
    database: Database, redis: Redis, environments: EnvironmentCatalogue, services: Sequence[str]
) -> Health:
    """`ok` when database and environment service answer, Redis takes writes, and each service's heartbeat is there."""
    names = ["database", "redis", "env", *services]
    checks: list[Awaitable[object]] = [database.ping(), _written(redis), environments.ask()]
    answering = asyncio.gather(*(_answer(check) for check in checks))
    answers, beats = await asyncio.gather(answering, _heartbeats(redis, services))
    found = dict(zip(names, [*answers, *beats], strict=True))
    return Health(status="ok" if set(found.values()) == {"ok"} else "degraded", checks=found)


async def _answer(check: Awaitable[object]) -> str:
    try:
        await asyncio.wait_for(check, TIMEOUT_S)
    except TimeoutError:
        return f"no answer within {TIMEOUT_S:g} s"
    except Problem as problem:
        return problem.detail
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this dependency's health
        return f"{type(error).__name__}: {error}"[:200]
    return "ok"


async def _written(redis: Redis) -> None:
    await redis.set(keys.WRITABLE, b"1", ex=60)  # a full disk still answers reads


async def _heartbeats(redis: Redis, services: Sequence[str]) -> list[str]:
    """A sentence about each service, after one look through Redis for all of them."""
    present: set[str] = set()

    async def look() -> None:
        present.update(await present_names(redis))

    said = await _answer(look()) if services else "ok"
    if said != "ok":
        return [said] * len(services)
    beating = {service for service in services if any(name.startswith(_key_of(service)) for name in present)}
    return ["ok" if service in beating else f"no live instance of {service}" for service in services]


def _key_of(service: str) -> str:
    return keys.service_heartbeat(service, "")
