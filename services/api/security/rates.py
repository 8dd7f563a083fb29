"""Rate limits per key and per address, counted in this process, or in Redis for all API processes together."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, TypeVar

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import ConnectionPool
from structlog.stdlib import BoundLogger

from services.api.rest.problems import Problem
from services.kit.redis import connect

T = TypeVar("T")
Limiter = SlidingWindowCounterRateLimiter

REDIS_TIMEOUT_S = 0.5
REDIS_RETRY_S = 5.0
"""Seconds for which this process counts alone after a failure of Redis."""


class Rates:
    """Sliding windows. While Redis does not answer, this process counts by itself: a call never fails for that.

    Args:
        per_key, per_address, failures_per_address: as `limits` writes them, e.g. `6000/minute`.
        redis_url: where several API processes count together, no cluster; None: this process counts alone.
    """

    def __init__(
        self,
        log: BoundLogger,
        *,
        per_key: str,
        per_address: str,
        failures_per_address: str,
        redis_url: str | None = None,
    ) -> None:
        self._log = log
        self._per_key, self._per_address = parse(per_key), parse(per_address)
        self._failures = parse(failures_per_address)
        self._own = Limiter(MemoryStorage())
        self._pool = _connections(redis_url) if redis_url else None
        self._shared = Limiter(_redis_storage(self._pool)) if self._pool else None
        self._retry_at = 0.0

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def count_address(self, address: str) -> None:
        """A call from this address. Raises Problem 429 for too many, or too many wrong keys before it."""
        await self._take(self._per_address, "calls from address", _network(address))
        if not await self._ask(lambda limiter: limiter.test(self._failures, "wrong keys", _network(address))):
            raise await self._problem(self._failures, "wrong keys", _network(address))

    async def count_failure(self, address: str) -> None:
        """This address showed a wrong key."""
        await self._ask(lambda limiter: limiter.hit(self._failures, "wrong keys", _network(address)))

    async def count_key(self, key_id: str) -> None:
        """A call with this key. Raises Problem 429."""
        await self._take(self._per_key, "calls with key", key_id)

    async def _take(self, limit: RateLimitItem, what: str, who: str) -> None:
        if not await self._ask(lambda limiter: limiter.hit(limit, what, who)):
            raise await self._problem(limit, what, who)

    async def _problem(self, limit: RateLimitItem, what: str, who: str) -> Problem:
        stats = await self._ask(lambda limiter: limiter.get_window_stats(limit, what, who))
        wait_s = max(1, math.ceil(stats.reset_time - time.time()))
        sentence = f"too many {what} {who}: want at most {limit}, call again in {wait_s} s"
        return Problem(429, sentence, headers={"Retry-After": str(wait_s)})

    async def _ask(self, question: Callable[[Limiter], Awaitable[T]]) -> T:
        if self._shared is not None and time.monotonic() >= self._retry_at:
            try:
                return await question(self._shared)
            except StorageError as error:
                self._retry_at = time.monotonic() + REDIS_RETRY_S
                self._log.warning("rate limits are counted by this process alone", error=str(error))
        return await question(self._own)


def _connections(url: str) -> ConnectionPool:
    return connect(url, timeout_s=REDIS_TIMEOUT_S, retries=0).connection_pool


def _redis_storage(pool: ConnectionPool) -> RedisStorage:
    options: dict[str, Any] = {"implementation": "redispy", "connection_pool": pool}  # its signature knows plain values
    return RedisStorage("async+redis://", wrap_exceptions=True, key_prefix="rates", **options)


def _network(address: str) -> str:
    """The address; of IPv6 the /64, which one customer holds as a whole."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address
