"""The table of inference replicas: who lives, and how little it costs to know."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from services.contracts import keys
from services.ledger.replicas import SURE_S, ReplicaRows


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def write(redis: Redis, row: str, *names: str) -> None:
    for name in names:
        await redis.hset(keys.REPLICAS, name, row)


async def alive(rows: ReplicaRows) -> set[str]:
    return {name for name, row in (await rows.read()).items() if row.alive}


async def looks(redis: Redis) -> int:
    """How many heartbeats were asked for since the server started."""
    return int((await redis.info("commandstats")).get("cmdstat_exists", {}).get("calls", 0))


async def test_a_replica_lives_by_its_heartbeat_and_a_row_alone_is_no_sign_of_life(redis: Redis) -> None:
    await write(redis, "first", "r1", "r2")
    await redis.set(keys.replica_heartbeat("r1"), "1")
    rows = ReplicaRows(redis)
    assert await alive(rows) == {"r1"}
    assert {name: row.status for name, row in (await rows.read()).items()} == {"r1": b"first", "r2": b"first"}


async def test_rows_that_change_cost_no_look_at_heartbeats(redis: Redis) -> None:
    clock, names = Clock(), [f"r{number}" for number in range(20)]
    rows = ReplicaRows(redis, clock)
    await write(redis, "0", *names)
    await redis.mset({keys.replica_heartbeat(name): "1" for name in names})
    assert len(await alive(rows)) == 20
    before = await looks(redis)
    for turn in range(1, 9):
        clock.now += 0.5
        if turn % 2:  # replicas write every other look
            await write(redis, str(turn), *names)
        assert len(await alive(rows)) == 20
    assert await looks(redis) == before


async def test_a_replica_that_writes_no_more_is_dead_once_its_heartbeat_is(redis: Redis) -> None:
    clock = Clock()
    rows = ReplicaRows(redis, clock)
    await write(redis, "0", "r1", "r2")
    await redis.mset({keys.replica_heartbeat("r1"): "1", keys.replica_heartbeat("r2"): "1"})
    await rows.read()
    clock.now += 1
    await write(redis, "1", "r1", "r2")
    await rows.read()
    await redis.delete(keys.replica_heartbeat("r1"))  # r2 starts an engine: it writes nothing and lives
    clock.now += SURE_S
    assert await alive(rows) == {"r2"}
    await redis.hdel(keys.REPLICAS, "r2")
    assert await alive(rows) == set()


@pytest.mark.parametrize("pause_s", [SURE_S, 60.0])
async def test_a_change_found_after_a_pause_of_the_reader_proves_nothing(redis: Redis, pause_s: float) -> None:
    clock = Clock()
    rows = ReplicaRows(redis, clock)
    await write(redis, "0", "r1")
    await redis.set(keys.replica_heartbeat("r1"), "1")
    assert await alive(rows) == {"r1"}
    await write(redis, "1", "r1")
    await redis.delete(keys.replica_heartbeat("r1"))
    clock.now += pause_s
    assert await alive(rows) == set()


async def test_a_replica_that_came_back_under_its_name_is_looked_at_anew(redis: Redis) -> None:
    clock = Clock()
    rows = ReplicaRows(redis, clock)
    await write(redis, "0", "r1")
    assert await alive(rows) == set()
    await redis.hdel(keys.REPLICAS, "r1")
    assert await rows.read() == {}
    await write(redis, "1", "r1")
    clock.now += 1
    assert await alive(rows) == set()
    await redis.set(keys.replica_heartbeat("r1"), "1")
    assert await alive(rows) == {"r1"}
