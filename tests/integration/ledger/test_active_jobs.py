"""The list of active jobs, also where something else stands in its place."""

from services.contracts import keys
from services.ledger.active_jobs import activate, active_jobs, deactivate


async def test_a_job_is_active_until_its_trainer_says_otherwise(redis):
    for job in ("job_a", "job_b", "job_a"):
        await activate(redis, job)
    await deactivate(redis, "job_b")
    assert await active_jobs(redis) == {"job_a"}


async def test_a_value_of_another_type_keeps_no_job_from_beginning_or_ending(redis):
    await redis.set(keys.ACTIVE_JOBS, "of another type")
    await deactivate(redis, "job_a")
    assert await active_jobs(redis) == set()
    await redis.hset(keys.ACTIVE_JOBS, "of", "another type")
    await activate(redis, "job_b")
    assert await active_jobs(redis) == {"job_b"}
