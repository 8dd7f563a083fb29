"""The loop's unit tests again, on the real ledger: its scripts, streams and stored payloads."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis
from trainer_platform import players_present, register

from services.contracts import keys
from services.contracts.environment import EnvironmentInfo
from services.contracts.messages import OpenedGroup
from services.ledger import GroupState, Ledger
from services.trainer.groups.arrivals import Arrivals
from services.trainer.groups.payloads import StoredGroups
from tests.unit.trainer.test_trainer_loop import *  # noqa: F403
from tests.unit.trainer.trainer_loop import (
    EPOCH,
    JOB,
    FakeCommands,
    FakeEvents,
    Loop,
    Script,
    loop_session,
    loop_spec,
)


class WatchedLedger(Ledger):
    """The real ledger, and what was opened."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis, JOB)
        self.groups: dict[str, OpenedGroup] = {}

    async def open(self, epoch: int, group: OpenedGroup, max_attempts: int) -> GroupState:
        self.groups[group.group_id] = group
        return await super().open(epoch, group, max_attempts)

    async def plant(self, batch: int, manifest: str) -> None:
        """Have a stranger write it."""
        await self._redis.hset(keys.manifests(JOB), str(batch), manifest)


class PlayedArrivals(Arrivals):
    """Whoever waits has the groups played first, by the script."""

    def __init__(self, redis: Redis, ledger: WatchedLedger, script: Script) -> None:
        super().__init__(redis, ledger, "trainer-1", poll_s=0.01)
        self._watched, self._script = ledger, script

    async def wait(self, epoch: int, missing: Collection[str]) -> dict[str, GroupState]:
        for name in missing:
            await self._play(self._watched.groups[name])
        return await super().wait(epoch, missing)

    async def _play(self, group: OpenedGroup) -> None:
        answer, ledger = self._script.answer(group), self._watched
        record = await ledger.record_of(group.group_id)
        while not answer.silent and record is not None and record.state is GroupState.OPEN:
            attempt = (await ledger.start(group.group_id, "w")).number
            if answer.cause is not None:
                await ledger.fail(group.group_id, attempt, answer.cause, reason=answer.reason)
            else:
                payload = self._script.payload(group)
                for episode in payload.episodes:
                    await ledger.record(episode, group)
                await ledger.score(payload.scored)
            record = await ledger.record_of(group.group_id)


@pytest.fixture
async def loop(redis: Redis, tmp_path: Path) -> Loop:
    spec, script, ledger = loop_spec(), Script(), WatchedLedger(redis)
    assert await ledger.claim_epoch() == EPOCH
    await register(redis, JOB)
    await players_present(redis)
    parts: dict[str, Any] = {
        "environment": EnvironmentInfo(id="grid"),
        "settings": SimpleNamespace(),
        "redis": redis,
        "ledger": ledger,
        "events": FakeEvents(),
        "arrivals": PlayedArrivals(redis, ledger, script),
        "stored": StoredGroups(redis, JOB),
        "commands": FakeCommands(),
    }
    return Loop(loop_session(tmp_path, spec, parts), script, ledger)
