"""`redis` is a cluster of three nodes here: tests of other folders run on it as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from services.kit.redis import connect
from tests.redis_servers import cluster


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster(tmp_path_factory.mktemp("cluster")) as url:
        yield url


@pytest.fixture
async def redis(cluster_url: str) -> AsyncIterator[Redis]:
    """A connection as the services make theirs, to an empty cluster."""
    async with connect(cluster_url) as client:
        await client.flushall()
        yield client
