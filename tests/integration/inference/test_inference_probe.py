"""A replica checks what it has loaded against the trainer's word, before it says that it serves a version."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.arrays import unpack_float32, unpack_int32
from services.contracts.messages import JobEvent, decode
from services.kit.streams import FIELD
from tests.integration.inference.conftest import Jobs, Running, Worker, until
from tests.unit.inference.fake_engine import RIGHT_LOGPROB
from tests.unit.inference.policy_versions import any_manifest, probed

Start = Callable[..., AbstractAsyncContextManager[Running]]


async def test_an_update_that_gives_the_right_weights_is_not_followed_by_a_start(
    start_replica: Start, jobs: Jobs
) -> None:
    async with start_replica() as replica:
        for version in range(3):
            await jobs.publish(probed(any_manifest(version)))
            await jobs.acked("r1", version)
        assert (replica.engine.starts, replica.engine.updates) == ([0], [1, 2])


async def test_an_update_that_gives_wrong_weights_is_followed_by_a_start_that_gives_the_right_ones(
    start_replica: Start, jobs: Jobs, worker: Worker
) -> None:
    async with start_replica() as replica:
        replica.engine.spoil_update = {1}
        await jobs.publish(probed(any_manifest(0)))
        await jobs.acked("r1", 0)
        await jobs.publish(probed(any_manifest(1)))
        await jobs.acked("r1", 1)
        assert (replica.engine.starts, replica.engine.updates) == ([0, 1], [1])
        await worker.ask("r1", "e:0:0", min_version=1)
        (generated,) = await worker.answered("e:0:0")
        assert set(unpack_int32(generated.versions)) == {1}
        assert set(unpack_float32(generated.logprobs)) == {RIGHT_LOGPROB}


async def test_a_version_that_no_start_loads_rightly_is_refused_for_good_and_the_old_one_served(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    async with start_replica() as replica:
        replica.engine.spoil_update = replica.engine.spoil_start = {1}
        await jobs.publish(probed(any_manifest(0)))
        await jobs.acked("r1", 0)
        await jobs.publish(probed(any_manifest(1)))
        event = await until(lambda: _first_event(redis))
        assert isinstance(event, JobEvent)
        assert event.kind == "warning"
        assert "does not serve version 1's weights: its log-probabilities differ" in str(event.data)
        await worker.ask("r1", "e:0:0")
        (generated,) = await worker.answered("e:0:0")
        assert set(unpack_int32(generated.versions)) == {0}
        assert set(unpack_float32(generated.logprobs)) == {RIGHT_LOGPROB}
        await jobs.publish(probed(any_manifest(2)))
        await jobs.acked("r1", 2)
        assert (replica.engine.starts, replica.engine.updates) == ([0, 1, 0], [1, 2])


async def test_a_first_version_with_wrong_weights_is_never_acknowledged(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    async with start_replica() as replica:
        replica.engine.spoil_start = {0}
        await jobs.publish(probed(any_manifest(0)))
        await until(lambda: _first_event(redis))
        await worker.ask("r1", "e:0:0")
        assert not await redis.exists(keys.policy_acks("job"))
        assert "e:0:0" not in worker.answers
        await jobs.publish(probed(any_manifest(1)))
        await jobs.acked("r1", 1)
        assert replica.engine.starts[0] == 0


async def _first_event(redis: Redis) -> JobEvent | None:
    entries = await redis.xrange(keys.events_stream("job"), count=1)
    return decode(entries[0][1][FIELD], JobEvent) if entries else None
