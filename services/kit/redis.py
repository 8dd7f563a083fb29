"""Redis connections that survive a restart of the server."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

RETRIES = 12
"""With the backoff below about 30 seconds: the time in which a restarted Redis must be back."""


def connect(url: str, *, max_connections: int = 64) -> Redis:
    """A client that returns bytes, and repeats a command when the connection breaks, for about 30 seconds.

    Every command sent through it must be safe to repeat: reads, and scripts that recognise their own repeat.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=30,  # a caller beyond max_connections waits for one that is given back
        socket_connect_timeout=5,
        socket_timeout=30,  # longer than the longest BLOCK in use (streams.BLOCK_MS)
        health_check_interval=15,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=4), RETRIES),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )
    return Redis.from_pool(pool)
