"""A cluster of which a named node, or every one, is away."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from services.kit.process import free_port
from services.kit.redis import connect, connect_blocking


async def test_any_node_that_is_named_leads_to_the_cluster(cluster_url: str) -> None:
    url = cluster_url.replace("://", f"://127.0.0.1:{free_port()},")
    async with connect(url) as redis:
        assert await redis.set("{a}x", "1")
    with connect_blocking(url, timeout_s=5) as blocking:
        assert blocking.get("{a}x") == b"1"


async def test_a_cluster_that_is_away_is_a_broken_connection() -> None:
    """Every service knows what to do then."""
    redis = connect(f"redis+cluster://127.0.0.1:{free_port()}", retries=0)
    with pytest.raises(RedisConnectionError):
        await redis.get("x")
    pipe = redis.pipeline(transaction=False)
    pipe.get("x")
    with pytest.raises(RedisConnectionError):
        await pipe.execute()
    await redis.aclose()
