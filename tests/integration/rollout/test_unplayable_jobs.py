"""Jobs that cannot be played: why, in the job's events and for its trainer, at once and not too often."""

import asyncio

import pytest

from services.contracts import keys
from services.contracts.events import Warned, warned
from services.contracts.messages import JobEvent, decode
from services.kit.streams import FIELD
from services.ledger import GroupState
from services.ledger.playability import why_unplayable
from services.ledger.warnings import Warnings
from tests.integration.rollout.fake_replica import FakeReplica, serving
from tests.integration.rollout.worker_process import HANGS_S, WorkedJob, worker_process


async def warnings(redis, job: WorkedJob) -> list[Warned]:
    events = [decode(fields[FIELD], JobEvent) for _, fields in await redis.xrange(keys.events_stream(job.job_id))]
    return [warned(event.data) for event in events if event.kind == "warning"]


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ({"chat_template": "a\n{% nonsense %}"}, r"chat template, line 2: Encountered unknown tag 'nonsense'"),
        ({"config": {}}, "want eos_token_id in"),
        ({"chat_template": "hello"}, "chat template omits the message's text"),
        ({"chat_template": "{{ raise_exception('no users') }}"}, "the tokenizer's chat template: no users"),
        ({"config": []}, "config.json: want a JSON object, got a list"),
    ],
)
async def test_a_job_that_no_worker_can_play_says_why_once_and_is_played_when_it_is_mended(
    redis, redis_url, env_address, tmp_path, folder, words
):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin(base=False)
    await job.set_base(**folder)
    with worker_process(redis_url, env_address, tmp_path):
        async with asyncio.timeout(HANGS_S):
            while (cause := await why_unplayable(redis, job.job_id)) is None:
                await asyncio.sleep(0.02)
        assert words in cause
        (warning,) = await warnings(redis, job)
        assert warning == Warned(service="rollout", message=f"the job cannot be played: {cause}")
        await redis.set(keys.service_heartbeat("rollout", "another"), "{}")
        assert await why_unplayable(redis, job.job_id) is None  # the other worker may play it
        await redis.delete(keys.service_heartbeat("rollout", "another"))
        await job.set_base()
        async with asyncio.timeout(HANGS_S):
            while await redis.exists(keys.playing_refusals(job.job_id)):
                await asyncio.sleep(0.02)
        assert await why_unplayable(redis, job.job_id) is None
        assert len(await warnings(redis, job)) == 1


async def test_what_is_no_fault_of_the_job_refuses_nothing(redis, redis_url, env_address, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin()
    await redis.set(keys.base(job.job_id), "x" * 300)  # an error of the file system, as storage that is away gives
    with worker_process(redis_url, env_address, tmp_path):
        async with asyncio.timeout(HANGS_S):
            while not await warnings(redis, job):
                await asyncio.sleep(0.02)
    assert await why_unplayable(redis, job.job_id) is None
    assert "File name too long" in (await warnings(redis, job))[0].message


async def test_attempts_that_fail_for_one_cause_are_told_as_one_warning_with_a_count(
    redis, redis_url, env_address, tmp_path
):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin(base=False)
    refuses = "{{ raise_exception('too many words') if messages[0].content | length > 60 else messages[0].content }}"
    await job.set_base(chat_template=refuses)
    with worker_process(redis_url, env_address, tmp_path):
        groups = [await job.open(cursor) for cursor in range(4)]
        async with serving(FakeReplica(redis, job.job_id, [[1]])), asyncio.timeout(HANGS_S):
            await job.reach(GroupState.DROPPED, *groups)
    told = await warnings(redis, job)
    cause = "an attempt to play a group failed: the tokenizer's chat template: too many words"
    assert [(one.service, one.message) for one in told] == [("rollout", cause)] * 4
    assert sorted(one.count for one in told) == [1, 2, 4, 8]  # of 12 attempts, side by side
    assert await Warnings(redis, "trainer").last_cause(job.job_id, 0.0) == cause


async def test_causes_are_counted_apart_up_to_a_limit_and_are_forgotten_by_time(redis):
    job = WorkedJob(redis, None, "job_a", {})
    counted = Warnings(redis, "rollout")
    names = [f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(300)]
    for name in names:
        await counted.count(job.job_id, f"cause {name}")
    assert await redis.hlen(keys.troubles(job.job_id)) == 101
    assert len(await warnings(redis, job)) == 100 + len([1, 2, 4, 8, 16, 32, 64, 128])
    assert await counted.last_cause(job.job_id, 0.0) == f"cause {names[-1]}"
    assert await counted.last_cause(job.job_id, 4e9) is None
    assert await redis.ttl(keys.troubles(job.job_id)) > 0
    assert await redis.ttl(keys.last_trouble(job.job_id)) > 0
