"""Fixtures for everybody: a real Redis-compatible server, started once a test run on a port given by the system."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from services.kit.redis import connect
from services.stack.valkey import embedded_redis
from tests.postgres import PostgresServer, postgres_server

settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")  # a busy machine is slow for reasons that are not the test's


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server that lives as long as the test run."""
    with embedded_redis(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that lives as long as the test run."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of that server, emptied for this test."""
    with SyncRedis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A connection to it, as the services make theirs."""
    client = connect(redis_url)
    yield client
    await client.aclose()
