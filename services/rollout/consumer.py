"""Reads one job's opened groups and plays as many at a time as there are free slots."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.contracts import keys
from services.contracts.messages import OpenedGroup, decode
from services.kit.streams import Entry, StreamConsumer
from services.kit.tasks import beside, ended
from services.ledger import MoveRefused
from services.ledger.ledger import ROLLOUT
from services.ledger.warnings import Warnings
from services.rollout.slots import EpisodeSlots

log = structlog.get_logger("rollout")

GROUPS_PER_READ = 4
"""Small, so that groups opened at once spread over the workers that wait for them."""

Play = Callable[[OpenedGroup], Awaitable[None]]


class GroupConsumer:
    """The groups of one job.

    Args:
        play: plays one group. MoveRefused: the group was already played. Any other error is logged, and the group is
            claimed again after it has been idle.
    """

    def __init__(
        self, redis: Redis, job_id: str, worker: str, *, play: Play, slots: EpisodeSlots, reclaim_idle_s: float
    ) -> None:
        self._play, self._slots, self._job_id = play, slots, job_id
        self._touch_every_s = reclaim_idle_s / 3
        self._stream = StreamConsumer(
            redis,
            keys.groups_stream(job_id),
            ROLLOUT,
            worker,
            decode=partial(decode, kind=OpenedGroup),
            refused=partial(Warnings(redis, "rollout").warn, job_id),
            reclaim_idle_ms=round(reclaim_idle_s * 1000),
        )
        self._playing: dict[asyncio.Task[None], str] = {}
        """Task -> the entry it works on."""
        self._held: set[str] = set()
        """Entries read that wait for slots."""

    async def consume(self, stop: asyncio.Event) -> None:
        """Read and play until `stop`; then return, with groups still being played (see `finish`)."""
        async with beside(self._touch):
            while not stop.is_set():
                await self._slots.room()
                read = await self._stream.read(GROUPS_PER_READ)
                mine = {*self._playing.values(), *self._held}  # they come again where touching them came too late
                entries = [entry for entry in read if entry.id not in mine]
                self._held.update(entry.id for entry in entries)
                for entry in entries:
                    await self._start(entry, stop)

    async def finish(self) -> None:
        """Wait until no group is being played, and keep the entries touched meanwhile."""
        async with beside(self._touch):
            while self._playing:
                await asyncio.wait(self._playing)

    async def abandon(self) -> None:
        """Stop playing at once; the groups are claimed by others when their entries have lain idle."""
        await ended(list(self._playing))

    async def _start(self, entry: Entry[OpenedGroup], stop: asyncio.Event) -> None:
        group = entry.payload
        await self._slots.take(group.n)
        if stop.is_set():
            self._slots.give(group.n)
            return
        task = asyncio.create_task(self._play_entry(entry))
        self._playing[task] = entry.id
        self._held.discard(entry.id)
        task.add_done_callback(self._done(group.n))

    def _done(self, n: int) -> Callable[[asyncio.Task[None]], None]:
        def forget(task: asyncio.Task[None]) -> None:
            self._playing.pop(task, None)
            self._slots.give(n)

        return forget

    async def _play_entry(self, entry: Entry[OpenedGroup]) -> None:
        try:
            with suppress(MoveRefused):
                await self._play(entry.payload)
                return
            await self._stream.ack(entry.id)  # every move acknowledges the announcement: this one is a leftover
        except Exception:
            log.exception(
                "a group could not be played and is left to other workers",
                job=self._job_id,
                group=entry.payload.group_id,
            )

    async def _touch(self) -> None:
        while True:
            await asyncio.sleep(self._touch_every_s)
            if ids := [*self._playing.values(), *self._held]:
                try:
                    await self._stream.touch(*ids)
                except RedisError as error:
                    log.error(
                        "the claim on groups could not be renewed",
                        job=self._job_id,
                        groups=len(ids),
                        error=repr(error),
                    )
