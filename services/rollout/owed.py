"""The requests that replicas have not answered yet: the entries of their streams, read or unread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from redis.asyncio import Redis

from services.contracts import keys

_THERE = """
local there = {}
for _, id in ipairs(ARGV) do
    if #redis.call('XRANGE', KEYS[1], id, id) > 0 then there[#there + 1] = id end
end
return there
"""
"""The script runs on the server, so that no prompt travels."""


class Owed:
    """Looks into the streams of requests; a replica deletes an entry once its last answer is written."""

    def __init__(self, redis: Redis) -> None:
        self._there = redis.register_script(_THERE)

    async def entries(self, asked: Collection[tuple[str, bytes]]) -> set[tuple[str, bytes]]:
        """The pairs of (replica, entry id) whose entry is there."""
        by_replica: dict[str, list[bytes]] = defaultdict(list)
        for replica, entry_id in asked:
            by_replica[replica].append(entry_id)
        return {
            (replica, entry_id)
            for replica, ids in by_replica.items()
            for entry_id in await self._there(keys=[keys.requests_stream(replica)], args=ids)
        }
