"""The table of inference replicas: who is registered, and whose heart beats."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis.asyncio import Redis

from services.contracts import keys
from services.kit.values import hash_value, text_of

SURE_S = 3.0
"""A row that changed in this time proves life, since replicas write theirs every second. A heartbeat lasts longer than
that, so a death is noticed as soon as by the heartbeat alone."""


@dataclass(frozen=True)
class Row:
    """One registered replica."""

    status: bytes
    """`ReplicaStatus` as JSON, as it was written."""
    alive: bool


class ReplicaRows:
    """Reads `keys.REPLICAS` again and again.

    Only rows that have not changed lately cost a look at their heartbeat: otherwise W readers of R replicas would send
    W x R commands at each look.
    """

    def __init__(self, redis: Redis, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis, self._clock = redis, clock
        self._last: dict[str, bytes] = {}
        self._changed_at: dict[str, float] = {}
        self._read_at = -math.inf

    async def read(self) -> dict[str, Row]:
        """Name -> its row, of all that are registered, the dead ones too."""
        found = await hash_value(self._redis, keys.REPLICAS)
        rows = {name: row for raw, row in found.items() if (name := text_of(raw)) is not None}
        self._note(rows, self._clock())
        doubtful = [name for name in rows if self._read_at - self._changed_at[name] >= SURE_S]
        beats = await self._beats(doubtful) if doubtful else {}
        return {name: Row(row, beats.get(name, True)) for name, row in rows.items()}

    async def _beats(self, names: list[str]) -> dict[str, bool]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.exists(keys.replica_heartbeat(name))
            return {name: bool(beat) for name, beat in zip(names, await pipe.execute(), strict=True)}

    def _note(self, rows: dict[str, bytes], now: float) -> None:
        recent = now - self._read_at < SURE_S  # a change that was found after a long pause may be an old one
        self._changed_at = {
            name: now if recent and self._last.get(name, row) != row else self._changed_at.get(name, -math.inf)
            for name, row in rows.items()
        }
        self._last, self._read_at = rows, now
