"""How often one key and one address may call; counted in this process."""

from __future__ import annotations

import math
import time
from ipaddress import IPv6Address, ip_address, ip_network

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from services.api.rest.problems import Problem


class Rates:
    """Sliding windows.

    Args:
        per_key, per_address, failures_per_address: as `limits` writes them, e.g. `6000/minute`.
    """

    def __init__(self, *, per_key: str, per_address: str, failures_per_address: str) -> None:
        self._per_key, self._per_address = parse(per_key), parse(per_address)
        self._failures = parse(failures_per_address)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def count_address(self, address: str) -> None:
        """A call from this address. Raises Problem 429 for too many, or too many wrong keys before it."""
        await self._take(self._per_address, "calls from address", _network(address))
        if not await self._limiter.test(self._failures, "wrong keys", _network(address)):
            raise await self._problem(self._failures, "wrong keys", _network(address))

    async def count_failure(self, address: str) -> None:
        """This address showed a wrong key."""
        await self._limiter.hit(self._failures, "wrong keys", _network(address))

    async def count_key(self, key_id: str) -> None:
        """A call with this key. Raises Problem 429."""
        await self._take(self._per_key, "calls with key", key_id)

    async def _take(self, limit: RateLimitItem, what: str, who: str) -> None:
        if not await self._limiter.hit(limit, what, who):
            raise await self._problem(limit, what, who)

    async def _problem(self, limit: RateLimitItem, what: str, who: str) -> Problem:
        stats = await self._limiter.get_window_stats(limit, what, who)
        wait_s = max(1, math.ceil(stats.reset_time - time.time()))
        sentence = f"too many {what} {who}: want at most {limit}, call again in {wait_s} s"
        return Problem(429, sentence, headers={"Retry-After": str(wait_s)})


def _network(address: str) -> str:
    """The address; of IPv6 the /64, which one customer holds as a whole."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((parsed, 64), strict=False)) if isinstance(parsed, IPv6Address) else address
