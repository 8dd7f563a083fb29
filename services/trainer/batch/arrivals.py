"""Which opened groups have left the pipeline: news from the stream of scored groups, the truth from the ledger."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import cast

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import CompleteGroup, ContractError, OpenedGroup, decode
from services.kit.streams import FIELD, StreamConsumer
from services.ledger import DropReason, GroupState, Ledger
from services.ledger.ledger import TRAINER

NEVER_MS = 10**9
"""One trainer per job, fenced by its epoch: nobody's entries are ever reclaimed, the ledger is asked instead."""

ARRIVED = frozenset({GroupState.SCORED, GroupState.ASSIGNED, GroupState.CONSUMED, GroupState.DROPPED})


class Arrivals:
    """The groups of one job as its trainer sees them.

    An entry of the stream only wakes us up: it goes away when the ledger assigns or drops its group. A group that was
    set aside, unplayable or without a score, is dropped here, so that another one can take its place.
    """

    def __init__(self, redis: Redis, ledger: Ledger, consumer: str, poll_s: float) -> None:
        self._redis, self._ledger, self._poll_s = redis, ledger, poll_s
        self._news = StreamConsumer(
            redis, keys.scored_stream(ledger.job), TRAINER, consumer, reclaim_idle_ms=NEVER_MS, max_deliveries=NEVER_MS
        )
        self._scored: set[str] = set()
        self._looked_at = 0.0
        self._letters_after = {
            stream: "-" for stream in (keys.groups_stream(ledger.job), keys.episodes_stream(ledger.job))
        }
        self.causes: dict[str, str] = {}
        """Why groups were set aside, by group."""

    async def wait(self, epoch: int, missing: Collection[str]) -> dict[str, GroupState]:
        """Wait for news of `missing`, at most `poll_s`; return the states of those that arrived.

        Raises:
            StaleEpoch: a poisonous group was to be dropped, and a newer trainer holds the job.
        """
        if not self._scored.intersection(missing):
            entries = await self._news.read(256, block_ms=int(self._poll_s * 1_000))
            self._scored.update(entry.payload.decode() for entry in entries)
        arrived = {name: GroupState.SCORED for name in missing if name in self._scored}
        self._scored.difference_update(arrived)
        if time.monotonic() - self._looked_at < self._poll_s:
            return arrived
        self._looked_at = time.monotonic()
        await self._drop_poisonous(epoch)
        states = await self.states([name for name in missing if name not in arrived])
        return arrived | {name: state for name, state in states.items() if state in ARRIVED}

    async def states(self, names: Sequence[str]) -> dict[str, GroupState]:
        """What the ledger says of each; a group it does not know (any more) is left out."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hget(keys.group(self._ledger.job, name), "state")
            raw = await pipe.execute()
        return {name: GroupState(state.decode()) for name, state in zip(names, raw, strict=True) if state is not None}

    async def _drop_poisonous(self, epoch: int) -> None:
        for stream, after in self._letters_after.items():
            answer = await self._redis.xrange(f"{stream}:dead", min=after)
            for id_, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", answer):
                self._letters_after[stream] = f"({id_.decode()}"
                if (group_id := _group_of(fields[FIELD])) is not None:
                    self.causes[group_id] = fields[b"cause"].decode()
                    await self._ledger.drop(epoch, group_id, DropReason.INFRA)


def _group_of(payload: bytes) -> str | None:
    """The group that a dead letter is about; None: it is no message at all, there is no group behind it."""
    kinds: tuple[type[OpenedGroup | CompleteGroup], ...] = (OpenedGroup, CompleteGroup)
    for kind in kinds:
        try:
            return decode(payload, kind).group_id
        except ContractError:
            continue
    return None
