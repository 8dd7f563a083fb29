"""Warnings that the user of a job gets while it is played, as the stream of events has them."""

import asyncio
import json

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import JobEvent, decode
from services.kit.streams import FIELD
from services.ledger import GroupState
from services.ledger.playability import refuse_job, why_unplayable
from services.ledger.warnings import Warnings
from tests.integration.rollout.fake_replica import FakeReplica, serving
from tests.integration.rollout.worker_process import HANGS_S, WorkedJob, worker_process


async def warnings(redis: Redis, job_id: str) -> list[dict[str, str]]:
    events = [decode(fields[FIELD], JobEvent) for _, fields in await redis.xrange(keys.events_stream(job_id))]
    return [event.data for event in events if event.kind == "warning"]


async def test_a_topic_is_told_once_a_job_whichever_worker_tells_it(redis):
    for _ in range(2):
        worker = Warnings(redis, "rollout")
        for _ in range(2):
            await worker.once("job_a", "a", "first")
            await worker.once("job_a", "b", "second")
    await Warnings(redis, "rollout").once("job_b", "a", "first")
    told = [{"service": "rollout", "message": message} for message in ("first", "second")]
    assert await warnings(redis, "job_a") == told
    assert await warnings(redis, "job_b") == told[:1]


async def test_stop_tokens_that_the_models_files_disagree_about_are_told(redis, redis_url, env_address, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {})
    await job.begin()
    (tmp_path / "jobs" / "job_a" / "base" / "config.json").write_text(json.dumps({"eos_token_id": 0}))
    with worker_process(redis_url, env_address, tmp_path), worker_process(redis_url, env_address, tmp_path):
        group_id = await job.open(0)
        async with serving(FakeReplica(redis, job.job_id, job.replies("go north"))):
            await asyncio.wait_for(job.reach(GroupState.COMPLETE, group_id), HANGS_S)
    messages = {warning["message"] for warning in await warnings(redis, "job_a")}
    assert len(messages) == 1
    assert "config.json says <pad> (0); the tokenizer's eos_token says <eos> (1)" in messages.pop()


async def test_prompts_that_are_cut_are_told_once_a_job(redis, redis_url, env_address, tmp_path):
    job = WorkedJob(redis, tmp_path, "job_a", {"max_prompt_tokens": 10})
    await job.begin()
    with worker_process(redis_url, env_address, tmp_path):
        opened = [await job.open(cursor) for cursor in range(3)]
        async with serving(FakeReplica(redis, job.job_id, job.replies("go north", "go south"))):
            await asyncio.wait_for(job.reach(GroupState.COMPLETE, *opened), HANGS_S)
    (warning,) = await warnings(redis, "job_a")
    assert warning["message"].startswith("max_prompt_tokens: observations are longer than 10 tokens allow")


async def test_values_of_a_wrong_type_hide_no_warning_and_stop_nothing(redis):
    told = Warnings(redis, "rollout")
    for name in (keys.warned("job_a"), keys.troubles("job_a"), keys.playing_refusals("job_a")):
        await redis.set(name, "of another type")
    await told.once("job_a", "a", "once a topic")
    await told.once("job_a", "a", "once a topic")
    for _ in range(3):
        await told.count("job_a", "counted")
    await refuse_job(redis, "job_a", "w1", "no tokenizer")
    messages = [warning["message"] for warning in await warnings(redis, "job_a")]
    assert messages == ["once a topic", "counted", "counted"]
    assert await why_unplayable(redis, "job_a") == "no tokenizer"
