"""The ledger's transitions as methods. Each is one Lua script, so a crash never leaves it half done."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import Any, cast
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from services.contracts import keys
from services.contracts.ids import purpose_of
from services.contracts.messages import CompleteGroup, ContractError, Episode, OpenedGroup, ScoredGroup, decode, encode
from services.kit.dead_letters import is_wrong_type, set_key_aside
from services.kit.values import hash_value, string_value, text_members, text_of, texts
from services.ledger.books import SEAL, Books, Correction, correction
from services.ledger.records import (
    Balance,
    GroupRecord,
    RecordUnreadable,
    balance_of,
    counters_in,
    episodes_in,
    manifests_in,
    record_in,
)
from services.ledger.states import DropReason, GroupState
from services.ledger.warnings import Warnings

ROLLOUT, ADVANTAGE, TRAINER = "rollout", "advantage", "trainer"
"""Consumer groups that read `{job}:groups`, `{job}:episodes` and `{job}:scored`."""

MOST_LOSSES = 30
"""Attempts of one group that may be lost with the machinery: where so many are, the group may be the cause."""
KEEP_RECORD_S = 86_400
"""A group's record outlives its end by a day, so that a late repeat of any move is recognised."""


class MoveRefused(RuntimeError):
    """The group is not in a state that allows the move: somebody else moved it, or the attempt was replaced."""


class LedgerSpoiled(RuntimeError):
    """Somebody else wrote a value of another type under a key of the ledger; the message names the keys."""


class StaleEpoch(RuntimeError):
    """A newer trainer holds the job; this one must stop without writing anything."""


@dataclass(frozen=True)
class Attempt:
    """One attempt to play a group."""

    number: int
    """>= 1; the newest one may write."""
    draw: int
    """>= 1; attempts of one draw sample with the same seeds, so a repeated one repeats what was cut short."""


class Ledger:
    """The ledger of one job.

    Args:
        redis: connection that returns bytes.
        job: the job's id.
    """

    def __init__(self, redis: Redis, job: str) -> None:
        self._redis, self.job = redis, job

    async def claim_epoch(self) -> int:
        """Become the job's trainer: every move of an earlier holder is refused from now on."""
        key = keys.epoch(self.job)
        try:
            return int(await self._redis.incr(key))
        except ResponseError:  # the key holds no number: begin above every number that was ever given out
            await self._redis.set(key, time.time_ns() // 1_000)
            return int(await self._redis.incr(key))

    async def newest_epoch(self) -> int:
        """The number of the job's trainer; 0: nobody is it, or no number stands there any more."""
        value = await string_value(self._redis, keys.epoch(self.job)) or b""
        return int(value) if value.isdigit() else 0

    async def open(self, epoch: int, group: OpenedGroup, max_attempts: int) -> GroupState:
        """Announce a group once; opening it again returns the state that it has by now. Raises StaleEpoch."""
        job, name = self.job, group.group_id
        names = [keys.epoch(job), keys.group(job, name), keys.ledger(job), keys.live(job), keys.groups_stream(job)]
        args = [epoch, name, group.purpose, group.cursor, group.n, max_attempts, encode(group)]
        return GroupState((await self._run("open", names, args)).decode())

    async def start(self, group_id: str, worker: str) -> Attempt:
        """Begin an attempt, also in place of a dead worker's. Raises MoveRefused."""
        names = [keys.group(self.job, group_id), keys.episodes(self.job, group_id)]
        number, draw = await self._run("start", names, [worker, uuid4().hex])
        return Attempt(int(number), int(draw))

    async def record(self, episode: Episode, group: OpenedGroup) -> GroupState:
        """Store a finished episode; the group's last one makes it COMPLETE. Storing it again changes nothing.

        Raises:
            MoveRefused: the attempt was replaced, or the group was dropped: abandon it.
        """
        job, name = self.job, group.group_id
        names = [keys.group(job, name), keys.episodes(job, name), keys.groups_stream(job), keys.episodes_stream(job)]
        args = [episode.attempt, episode.k, encode(episode), encode(_complete(group)), ROLLOUT]
        return GroupState((await self._run("record", names, args)).decode())

    async def fail(
        self, group_id: str, attempt: int, cause: str, *, reason: DropReason = DropReason.INFRA, lost: bool = False
    ) -> GroupState:
        """Give an attempt up: the group is OPEN again, or DROPPED(reason) after the last one; the owner is told why.

        Args:
            reason: whose fault it was. Where it was not the infrastructure's, the policy's actions may have led there,
                so the next attempt samples others.
            lost: what it was played with went away. It does not count as one of `max_attempts`, and a group may lose
                `MOST_LOSSES` attempts like that.

        Raises:
            MoveRefused: the attempt was replaced, or the group was dropped.
        """
        job = self.job
        names = [keys.group(job, group_id), keys.episodes(job, group_id), keys.groups_stream(job)]
        names += [keys.ledger(job), keys.live(job)]
        redraw = reason is not DropReason.INFRA
        args = [attempt, cause, ROLLOUT, group_id, KEEP_RECORD_S, int(redraw), reason.value, MOST_LOSSES if lost else 0]
        state = GroupState((await self._run("fail", names, args)).decode())
        await Warnings(self._redis, "rollout").count(job, f"an attempt to play a group failed: {cause}")
        return state

    async def score(self, scored: ScoredGroup) -> GroupState:
        """Store a group's advantages. Raises MoveRefused, also when other scores are stored already."""
        job, name = self.job, scored.group_id
        names = [keys.group(job, name), keys.scores(job, name), keys.episodes_stream(job), keys.scored_stream(job)]
        return GroupState((await self._run("score", names, [encode(scored), name, ADVANTAGE])).decode())

    async def assign(self, epoch: int, batch: int, manifest: str, group_ids: Sequence[str]) -> None:
        """Put all groups into batch number `batch` and store its manifest. Raises StaleEpoch, MoveRefused."""
        names = [keys.epoch(self.job), keys.manifests(self.job), keys.scored_stream(self.job)]
        names += [keys.group(self.job, name) for name in group_ids]
        await self._run("assign", names, [epoch, batch, manifest, TRAINER])

    async def consume(self, epoch: int, batch: int, group_ids: Sequence[str]) -> None:
        """The effect of `batch` is durable: free its payload; repeatable. Raises StaleEpoch, MoveRefused."""
        job = self.job
        names = [keys.epoch(job), keys.manifests(job), keys.ledger(job), keys.live(job)]
        for name in group_ids:
            names += [keys.group(job, name), keys.episodes(job, name), keys.scores(job, name)]
        await self._run("consume", names, [epoch, batch, KEEP_RECORD_S, *group_ids])

    async def settle(self, epoch: int, batch: int, group_ids: Sequence[str]) -> int:
        """The results of these groups are durable: count as consumed what Redis has lost of them. Raises StaleEpoch.

        Args:
            batch: number under which they are settled, once.
            group_ids: of one purpose.

        Returns:
            How many were not counted; 0 too where they were settled before.
        """
        purpose = purpose_of(group_ids[0])
        args = [epoch, f"settled:{batch}", purpose, ROLLOUT, ADVANTAGE, TRAINER, *group_ids]
        return int(await self._run("settle", self._whole_groups(group_ids), args))

    async def drop(self, epoch: int, group_id: str, reason: DropReason) -> bool:
        """End a live group untrained; False when it was not live any more. Raises StaleEpoch."""
        args = [epoch, reason.value, group_id, KEEP_RECORD_S, ROLLOUT, ADVANTAGE, TRAINER]
        return bool(await self._run("drop", self._whole_groups([group_id]), args))

    async def lost(self, group_ids: Sequence[str]) -> dict[str, str]:
        """Groups that wait to be played or scored although no entry of a stream announces them: somebody deleted it, or
        the stream. Group -> id of the entry that is gone."""
        if not group_ids:
            return {}
        names = [keys.groups_stream(self.job), keys.episodes_stream(self.job)]
        found = await self._run("lost", [*names, *(keys.group(self.job, name) for name in group_ids)], [])
        return {name: entry.decode() for name, entry in zip(group_ids, found, strict=True) if entry}

    async def announce(self, epoch: int, group_id: str, entry_id: str) -> bool:
        """Announce a group again whose entry is gone; False: somebody else did, or it has moved.

        Raises:
            StaleEpoch, RecordUnreadable.
        """
        job = self.job
        opened = await cast(Awaitable[bytes | None], self._redis.hget(keys.group(job, group_id), "opened"))
        try:
            group = decode(opened or b"", OpenedGroup)
        except ContractError as error:
            raise RecordUnreadable(f"the group that was opened cannot be read: {error}") from error
        names = [keys.epoch(job), keys.groups_stream(job), keys.episodes_stream(job), keys.group(job, group_id)]
        args = [epoch, entry_id, encode(group), encode(_complete(group))]
        return bool(await self._run("announce", names, args))

    async def seal(self, epoch: int, trained: Sequence[str]) -> Books:
        """The books of the ledger now, for a checkpoint to keep. Raises StaleEpoch, RecordUnreadable.

        Args:
            trained: the live groups whose effect the checkpoint holds.
        """
        job = self.job
        raw, live = await self._run("seal", [keys.epoch(job), keys.ledger(job), keys.live(job)], [epoch])
        counters = counters_in(dict(zip(raw[::2], raw[1::2], strict=True)))
        return Books(job, counters, sorted(texts(live)), list(trained))

    async def catch_up(self, epoch: int, books: Books) -> bool:
        """Come to the books of a checkpoint if Redis has lost what happened before it; whether it had.

        Raises:
            StaleEpoch, RecordUnreadable.
        """
        if books.job != self.job or not books.seal:
            return False
        while True:
            now = await self._counters()
            if now.get(SEAL, 0) >= books.seal:
                return False
            states = await self._states({*books.live, *await self.live()})
            if await self._corrected(epoch, correction(books, states), now.get("dropped:infra", 0)):
                return True

    async def live(self) -> list[str]:
        """Ids of the groups that are neither consumed nor dropped, sorted."""
        return sorted(await text_members(self._redis, keys.live(self.job)))

    async def forget_strangers(self) -> None:
        """Take out of the live groups what has no record: no move of the ledger put it there."""
        live = keys.live(self.job)
        await set_key_aside(self._redis, live, "set")
        members = list(await cast(Awaitable[set[bytes]], self._redis.smembers(live)))
        async with self._redis.pipeline(transaction=False) as pipe:
            for member in members:
                pipe.exists(keys.group(self.job, text_of(member) or ""))
            known = await pipe.execute()
        if strangers := [member for member, there in zip(members, known, strict=True) if not there]:
            await self._redis.srem(live, *strangers)

    async def balance(self) -> Balance:
        """The counters; `Balance.holds` is the ledger's invariant. Both reads happen in one transaction.

        Raises:
            RecordUnreadable; ResponseError: a value of another type stands in the counters' place.
        """
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.ledger(self.job))
            pipe.scard(keys.live(self.job))
            raw, live = await pipe.execute()
        return balance_of(raw, int(live))

    async def record_of(self, group_id: str) -> GroupRecord | None:
        """The ledger's record of a group; None: it was never opened, or ended more than a day ago.

        Raises:
            RecordUnreadable.
        """
        return record_in(await hash_value(self._redis, keys.group(self.job, group_id)))

    async def episodes_of(self, group_id: str) -> list[bytes]:
        """The stored `Episode` payloads in order of k; empty when there are none (any more).

        Raises:
            RecordUnreadable.
        """
        return episodes_in(group_id, await hash_value(self._redis, keys.episodes(self.job, group_id)))

    async def manifests(self) -> dict[int, str]:
        """Batch number -> manifest of every batch that no durable checkpoint holds yet."""
        return manifests_in(await hash_value(self._redis, keys.manifests(self.job)))

    async def _counters(self) -> dict[str, int]:
        return counters_in(await hash_value(self._redis, keys.ledger(self.job)))

    async def _states(self, group_ids: Iterable[str]) -> dict[str, GroupState | None]:
        """None: the group is unknown, or its record cannot be read."""
        states = dict.fromkeys(group_ids)
        for name in states:
            with suppress(RecordUnreadable):
                record = await self.record_of(name)
                states[name] = record.state if record else None
        return states

    async def _corrected(self, epoch: int, change: Correction, dropped: int) -> bool:
        """Whether it was made: not when more groups than `dropped` were dropped by now."""
        forgotten = change.forgotten
        args: list[object] = [epoch, change.counters[SEAL], ROLLOUT, ADVANTAGE, TRAINER, dropped]
        args += [len(forgotten), *forgotten, *chain.from_iterable(change.counters.items())]
        return int(await self._run("catch_up", self._whole_groups(forgotten), args)) >= 0

    def _whole_groups(self, group_ids: Iterable[str]) -> list[str]:
        """Keys of the ledger, of its streams, and of all that there is of the groups."""
        job = self.job
        names = [keys.epoch(job), keys.ledger(job), keys.live(job)]
        names += [keys.groups_stream(job), keys.episodes_stream(job), keys.scored_stream(job)]
        for name in group_ids:
            names += [keys.group(job, name), keys.episodes(job, name), keys.scores(job, name)]
        return names

    async def _run(self, move: str, names: list[str], args: Sequence[Any]) -> Any:
        script = self._redis.register_script(_source(move))
        try:
            try:
                return await script(keys=names, args=args)
            except ResponseError as error:
                if not is_wrong_type(error) or not await self._set_streams_aside():
                    raise
                return await script(keys=names, args=args)
        except ResponseError as error:
            if is_wrong_type(error):
                raise LedgerSpoiled(await self._spoiled_key(names)) from error
            kind, _, detail = str(error).partition(" ")
            if kind == "STALE_EPOCH":
                raise StaleEpoch(f"{move} in job {self.job}: epoch {detail} is no longer the newest") from error
            if kind == "REFUSED":
                raise MoveRefused(f"{move} in job {self.job}: the group is {detail}") from error
            raise

    async def _set_streams_aside(self) -> bool:
        """Make room for streams where values of another type stand; whether there was one."""
        streams = (keys.groups_stream(self.job), keys.episodes_stream(self.job), keys.scored_stream(self.job))
        return any([await set_key_aside(self._redis, name, "stream") for name in streams])

    async def _spoiled_key(self, names: Sequence[str]) -> str:
        kinds = [f"{name} is a {cast(bytes, await self._redis.type(name)).decode()}" for name in names]
        return f"the ledger of job {self.job} cannot be read, a key holds a value of another type: {', '.join(kinds)}"


def _complete(group: OpenedGroup) -> CompleteGroup:
    return CompleteGroup(
        job_id=group.job_id, group_id=group.group_id, purpose=group.purpose, cursor=group.cursor, trace=group.trace
    )


@cache
def _source(move: str) -> str:
    return files("services.ledger").joinpath(f"lua/{move}.lua").read_text()
