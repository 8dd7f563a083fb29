"""Finds opened groups that have left the pipeline: the stream of scored groups wakes it, the ledger has the state."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.contracts import keys
from services.contracts.messages import CompleteGroup, ContractError, OpenedGroup, decode
from services.kit.dead_letters import dead_letters, set_entry_aside, set_key_aside
from services.kit.streams import FIELD, Entry, RawEntry, StreamConsumer
from services.ledger import DropReason, GroupState, Ledger, RecordUnreadable
from services.ledger.ledger import TRAINER
from services.ledger.records import state_in
from services.ledger.warnings import Warnings

NEVER_MS = 10**9
"""One trainer per job, fenced by its epoch: nobody's entries are ever reclaimed, the ledger is asked instead."""

LOST_EVERY_S = 10.0
"""Time between two looks for groups whose entry is gone; at the second look in a row they are announced again."""

SHOWN = 40
"""Characters of an unknown id that a sentence shows."""

ARRIVED = frozenset({GroupState.SCORED, GroupState.ASSIGNED, GroupState.CONSUMED, GroupState.DROPPED})


class Arrivals:
    """The groups of one job as its trainer sees them.

    An entry of the stream only wakes us up: it goes away when the ledger assigns or drops its group. A group that was
    set aside, unplayable or without a score, or whose record is spoiled, is dropped here, so that another one can take
    its place. A group whose entry was lost is announced again.
    """

    def __init__(self, redis: Redis, ledger: Ledger, consumer: str, poll_s: float) -> None:
        self._redis, self._ledger, self._poll_s = redis, ledger, poll_s
        self._warnings = Warnings(redis, "trainer")
        self._news = StreamConsumer(
            redis,
            keys.scored_stream(ledger.job),
            TRAINER,
            consumer,
            decode=bytes.decode,
            refused=partial(self._warnings.warn, ledger.job),
            reclaim_idle_ms=NEVER_MS,
            max_deliveries=NEVER_MS,
        )
        self._scored: set[str] = set()
        self._looked_at = self._looked_for_lost_at = 0.0
        self._lost: dict[str, str] = {}
        """Group -> its entry that was gone at the last look."""
        streams = (keys.groups_stream(ledger.job), keys.episodes_stream(ledger.job))
        self._letters_after = {dead_letters(stream): "-" for stream in streams}
        self.causes: dict[str, str] = {}
        """Why groups were set aside, by group."""

    async def wait(self, epoch: int, missing: Collection[str]) -> dict[str, GroupState]:
        """Wait for news of `missing`, at most `poll_s`; return the states of those that arrived.

        Raises:
            StaleEpoch: a poisonous group was to be dropped, and a newer trainer holds the job.
        """
        if not self._scored.intersection(missing):
            entries = await self._news.read(256, block_ms=int(self._poll_s * 1_000))
            await self._set_strangers_aside(entries)
            self._scored.update(entry.payload for entry in entries)
        asked = [name for name in missing if name in self._scored]
        self._scored.difference_update(asked)
        if time.monotonic() - self._looked_at >= self._poll_s:
            self._looked_at = time.monotonic()
            await self._drop_poisonous(epoch)
            await self._announce_lost(epoch, list(missing))
            asked = list(missing)
        states = await self._states_or_drop(epoch, asked)
        return {name: state for name, state in states.items() if state in ARRIVED}

    async def states(self, names: Sequence[str]) -> dict[str, GroupState]:
        """The ledger's record of each; a group it does not know (any more) is left out. Raises RecordUnreadable."""
        states = await self._read(names)
        for state in states.values():
            if isinstance(state, RecordUnreadable):
                raise state
        return {name: state for name, state in states.items() if isinstance(state, GroupState)}

    async def _set_strangers_aside(self, entries: Sequence[Entry[str]]) -> None:
        """An entry that names no group of the ledger's would stay for ever: no move takes it away."""
        known = await self._read([entry.payload for entry in entries])
        for entry in entries:
            if entry.payload not in known:
                cause = f"want the id of a group, got {entry.payload[:SHOWN]!r}, which the ledger does not know"
                await set_entry_aside(self._redis, self._news.stream, entry.id, cause, TRAINER)

    async def _states_or_drop(self, epoch: int, names: Sequence[str]) -> dict[str, GroupState]:
        states: dict[str, GroupState] = {}
        for name, state in (await self._read(names)).items():
            if isinstance(state, RecordUnreadable):
                await self._drop(epoch, name, f"its record in the ledger cannot be read: {state}")
                state = GroupState.DROPPED
            states[name] = state
        return states

    async def _read(self, names: Sequence[str]) -> dict[str, GroupState | RecordUnreadable]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hget(keys.group(self._ledger.job, name), "state")
            raw = await pipe.execute(raise_on_error=False)
        return {name: _state(value) for name, value in zip(names, raw, strict=True) if value is not None}

    async def _drop(self, epoch: int, group_id: str, cause: str) -> None:
        self.causes[group_id] = cause
        await set_key_aside(self._redis, keys.group(self._ledger.job, group_id), "hash")
        await self._ledger.drop(epoch, group_id, DropReason.INFRA)

    async def _announce_lost(self, epoch: int, missing: Sequence[str]) -> None:
        """The second look leaves time for a dead letter, of which the group is dropped, to be seen before."""
        if time.monotonic() - self._looked_for_lost_at < LOST_EVERY_S:
            return
        self._looked_for_lost_at = time.monotonic()
        before, self._lost = self._lost, await self._ledger.lost(missing)
        for name, entry in self._lost.items():
            if before.get(name) != entry:
                continue
            try:
                await self._ledger.announce(epoch, name, entry)
            except RecordUnreadable as error:
                await self._drop(epoch, name, f"its record in the ledger cannot be read: {error}")
            else:
                await self._warnings.count(self._ledger.job, "the entry of a group was lost; it is announced again")

    async def _drop_poisonous(self, epoch: int) -> None:
        for letters, after in self._letters_after.items():
            await set_key_aside(self._redis, letters, "stream")
            for id_, fields in cast("list[RawEntry]", await self._redis.xrange(letters, min=after)):
                self._letters_after[letters] = f"({id_.decode()}"
                if (group_id := _group_of(fields)) is not None:
                    cause = fields.get(b"cause", b"no cause is known").decode(errors="replace")
                    await self._drop(epoch, group_id, cause)


def _state(value: bytes | Exception) -> GroupState | RecordUnreadable:
    if isinstance(value, ResponseError):
        return RecordUnreadable(str(value))
    if isinstance(value, Exception):
        raise value
    try:
        return state_in(value)
    except RecordUnreadable as error:
        return error


def _group_of(fields: Mapping[bytes, bytes]) -> str | None:
    """The group that a dead letter is about; None: it is no message at all, there is no group behind it."""
    kinds: tuple[type[OpenedGroup | CompleteGroup], ...] = (OpenedGroup, CompleteGroup)
    for kind in kinds:
        try:
            return decode(fields.get(FIELD, b""), kind).group_id
        except ContractError:
            continue
    return None
