"""A start that fails again and again for one reason is refused for good; other failures are tried again."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.policy import PolicyManifest, PolicyRefusal
from services.inference import service
from services.inference.engine import EngineFailed
from tests.integration.inference.conftest import Jobs, Running, until
from tests.unit.inference.fake_engine import FakeEngine
from tests.unit.inference.policy_versions import any_manifest

Start = Callable[..., AbstractAsyncContextManager[Running]]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(service, "LONGEST_PAUSE_S", 0.01)


@pytest.mark.parametrize("error", [EngineFailed("vLLM ended with status 1: no kernel for it"), KeyError("model_type")])
async def test_a_start_that_fails_twice_for_one_reason_is_refused_for_good(
    start_replica: Start, jobs: Jobs, redis: Redis, error: Exception
) -> None:
    async with start_replica() as replica:
        replica.engine.start_error = error
        await jobs.publish(any_manifest(0))
        refusal = await for_good(redis)
        assert refusal.reason == ("KeyError: 'model_type'" if isinstance(error, KeyError) else str(error))
        assert replica.engine.starts == [0, 0]


async def test_starts_that_fail_for_ever_new_reasons_are_counted(
    start_replica: Start, jobs: Jobs, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = iter("abcdefgh")

    async def fail(engine: FakeEngine, manifest: PolicyManifest) -> None:
        engine.starts.append(manifest.version)
        raise EngineFailed(f"reason {next(letters)}")

    monkeypatch.setattr(FakeEngine, "start", fail)
    async with start_replica() as replica:
        await jobs.publish(any_manifest(0))
        assert (await for_good(redis)).reason == "reason e"
        assert replica.engine.starts == [0] * service.MOST_FAILURES


async def test_an_engine_that_served_the_version_before_is_started_again_however_often_it_fails(
    start_replica: Start, jobs: Jobs
) -> None:
    async with start_replica() as replica:
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        replica.engine.start_error = EngineFailed("the device is lost")
        replica.engine.die()
        await until(lambda: _as_async(len(replica.engine.starts) > 2 * service.MOST_FAILURES or None))
        replica.engine.start_error = None
        await jobs.status("r1", state="serving", version=0)


async def test_a_version_whose_update_breaks_the_engine_is_served_by_a_start(start_replica: Start, jobs: Jobs) -> None:
    async with start_replica() as replica:
        replica.engine.break_update = {1}
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        await jobs.publish(any_manifest(1))
        await jobs.acked("r1", 1)
        assert replica.engine.updates == [1]
        assert replica.engine.starts == [0, 0, 1]


async def for_good(redis: Redis) -> PolicyRefusal:
    """Wait until the replica refuses a version for good."""

    async def look() -> PolicyRefusal | None:
        payload = await redis.hget(keys.policy_refusals("job"), "r1")
        refusal = None if payload is None else PolicyRefusal.model_validate_json(payload)
        return refusal if refusal is not None and refusal.final else None

    return await until(look)


async def _as_async(value: object) -> object:
    return value
