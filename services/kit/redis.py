"""Redis connections that survive a restart of the server, and a server that refuses writes for a while."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog
from redis._parsers.base import BaseParser  # private: the version is pinned, and a test fills a real server
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

log = structlog.get_logger("kit")

RETRIES = 12
"""With the backoff below about 30 seconds: the time in which a restarted Redis must be back."""

T = TypeVar("T")


class WritesRefused(RedisConnectionError):
    """The server answers, but takes no writes for now: its disk is full or read-only, or its memory is used up.

    A connection error for every client in this process, Celery's too, because it passes as an outage does.
    """


BaseParser.EXCEPTION_CLASSES.update(dict.fromkeys(("MISCONF", "OOM", "NOREPLICAS"), WritesRefused))


class _Patience(Retry):
    """Repeats a command while the connection is broken, and as long as the server refuses writes.

    Args:
        waits: False: a refusal is raised at once.
    """

    def __init__(self, *, waits: bool) -> None:
        super().__init__(ExponentialWithJitterBackoff(base=0.05, cap=4), RETRIES)
        self._waits = waits

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[T]],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        def is_worth_it(error: Exception) -> bool:
            worth_it = self._waits or not isinstance(error, WritesRefused)
            return worth_it and (is_retryable is None or is_retryable(error))

        while True:
            try:
                return await super().call_with_retry(do, fail, is_worth_it, with_failure_count)
            except WritesRefused as error:
                if not is_worth_it(error):
                    raise
                log.error("Redis refuses writes; this waits until it takes them", error=str(error))


def connect(url: str, *, max_connections: int = 64, waits_for_writes: bool = True) -> Redis:
    """A client that returns bytes, and repeats a command when the connection breaks, for about 30 seconds.

    While the server refuses writes it waits without a limit: ending would not help, and what is under way stays.

    Every command sent through it must be safe to repeat: reads, and scripts that recognise their own repeat.

    Args:
        waits_for_writes: False for those who have somebody to tell: they get WritesRefused at once.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=None if waits_for_writes else 30,  # a caller beyond max_connections waits for one that is given back
        socket_connect_timeout=5,
        socket_timeout=30,  # longer than the longest BLOCK in use (streams.BLOCK_MS)
        health_check_interval=15,
        retry=_Patience(waits=waits_for_writes),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )
    return Redis.from_pool(pool)
