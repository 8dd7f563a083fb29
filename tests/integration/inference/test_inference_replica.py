import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.arrays import unpack_int32
from services.contracts.messages import GenerateItem, GenerateRequest, JobEvent, decode, encode
from services.contracts.policy import PolicyRefusal, ReplicaStatus
from services.inference.consumer import GROUP
from services.inference.engine import EngineFailed
from services.kit.dead_letters import aside, dead_letters
from services.kit.payloads import payload_key
from services.kit.streams import FIELD
from services.ledger.presence import present_instances
from tests.integration.inference.conftest import Jobs, Running, Worker, until
from tests.unit.inference.policy_versions import any_manifest

POISON: list[dict[bytes, bytes]] = [
    {b"q": b"x"},
    {FIELD: b""},
    {FIELD: b"\x80\x04pickle"},
    {FIELD: b"\xff" * 20_000_000},
    {FIELD: encode(JobEvent(kind="state", at_unix_s=0.0, data={}))},
]
IMPOSSIBLE: list[dict[str, object]] = [
    {"temperature": float("nan")},
    {"temperature": -1.0},
    {"max_tokens": 0},
    {"stop_token_ids": [2**40]},
    {"reply_to": keys.events_stream("job")},
]


def odd_prompt(worker: Worker) -> GenerateRequest:
    """A prompt that is no array of int32."""
    return GenerateRequest(
        job_id="job", reply_to=keys.replies_stream(worker.name), min_version=0, temperature=1.0, max_tokens=4,
        items=[GenerateItem(item_id="odd", prompt_ids=b"abc", seed=7)], stop_token_ids=[1], deadline_unix_s=4e9,
    )  # fmt: skip


Start = Callable[..., AbstractAsyncContextManager[Running]]


async def test_a_replica_takes_a_job_acknowledges_its_policy_and_answers(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    async with start_replica() as replica:
        await jobs.status("r1", state="idle", version=-1)
        await jobs.publish(any_manifest(0))
        assert (await jobs.acked("r1", 0)).engine == "fake"
        await jobs.status("r1", state="serving", job_id="job", version=0)
        await worker.ask("r1", "e:0:0", "e:1:0")
        for generated in await worker.answered("e:0:0", "e:1:0"):
            assert generated.error == ""
            assert set(unpack_int32(generated.versions)) == {0}
        assert replica.engine.starts == [0]
    assert await redis.xlen(keys.requests_stream("r1")) == 0


async def test_a_request_is_acknowledged_only_after_its_last_answer(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    async with start_replica() as replica:
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        replica.engine.gate.clear()
        await worker.ask("r1", "e:0:0")
        await until(lambda: _pending(redis, "r1", 1))
        replica.engine.gate.set()
        await worker.answered("e:0:0")
        await until(lambda: _pending(redis, "r1", 0))
        await until(lambda: _length(redis, "r1", 0))


async def test_the_engine_follows_new_versions_without_a_start(
    start_replica: Start, jobs: Jobs, worker: Worker
) -> None:
    async with start_replica() as replica:
        for version in range(4):
            await jobs.publish(any_manifest(version))
            await jobs.acked("r1", version)
        await worker.ask("r1", "e:0:0", min_version=3)
        (generated,) = await worker.answered("e:0:0")
        assert set(unpack_int32(generated.versions)) == {3}
        assert replica.engine.starts == [0]
        assert replica.engine.updates == [1, 2, 3]


async def test_a_request_for_a_version_to_come_waits_for_it(start_replica: Start, jobs: Jobs, worker: Worker) -> None:
    async with start_replica():
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        await worker.ask("r1", "new", min_version=1)
        await worker.ask("r1", "old")
        await worker.answered("old")
        assert "new" not in worker.answers
        await jobs.publish(any_manifest(1))
        (generated,) = await worker.answered("new")
        assert set(unpack_int32(generated.versions)) == {1}


async def test_a_damaged_version_is_reported_and_the_old_one_served(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    async with start_replica() as replica:
        replica.engine.reject = {1}
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        await jobs.publish(any_manifest(1))
        event = await until(lambda: _first_event(redis))
        assert isinstance(event, JobEvent)
        said = "r1 can't serve version 1: version 1 is damaged"
        assert (event.kind, event.data) == ("warning", {"service": "inference", "message": said})
        assert await jobs.refused("r1") == PolicyRefusal(
            replica="r1", version=1, reason="version 1 is damaged", final=True
        )
        await worker.ask("r1", "e:0:0")
        (generated,) = await worker.answered("e:0:0")
        assert set(unpack_int32(generated.versions)) == {0}
        await jobs.publish(any_manifest(2))
        await jobs.acked("r1", 2)
        assert not await redis.exists(keys.policy_refusals("job"))


@pytest.mark.parametrize("error", [EngineFailed("no memory left"), KeyError("model_type")])
async def test_whatever_keeps_an_engine_from_serving_is_told_and_tried_again(
    start_replica: Start, jobs: Jobs, redis: Redis, error: Exception
) -> None:
    async with start_replica() as replica:
        replica.engine.start_error = error
        await jobs.publish(any_manifest(0))
        event = await until(lambda: _first_event(redis))
        assert isinstance(event, JobEvent)
        reason = "no memory left" if isinstance(error, EngineFailed) else "KeyError: 'model_type'"
        assert event.data["message"] == f"r1 can't serve version 0: {reason}"
        assert await jobs.refused("r1") == PolicyRefusal(replica="r1", version=0, reason=reason, final=False)
        replica.engine.start_error = None
        await jobs.acked("r1", 0)
        assert await redis.xlen(keys.events_stream("job")) == 1  # one cause is told once, however often it is tried


async def test_an_update_that_breaks_the_engine_brings_the_old_version_back(
    start_replica: Start, jobs: Jobs, worker: Worker
) -> None:
    async with start_replica() as replica:
        replica.engine.break_on = {1}
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        await jobs.publish(any_manifest(1))
        await until(lambda: _as_async(replica.engine.starts == [0, 0] or None))
        await worker.ask("r1", "e:0:0")
        (generated,) = await worker.answered("e:0:0")
        assert set(unpack_int32(generated.versions)) == {0}


async def test_a_dead_engine_is_started_with_the_newest_version_and_answers_what_it_owed(
    start_replica: Start, jobs: Jobs, worker: Worker
) -> None:
    async with start_replica() as replica:
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        replica.engine.gate.clear()
        await worker.ask("r1", "e:0:0")
        await until(lambda: _as_async(replica.engine.calls or None))
        replica.engine.die()
        (generated,) = await worker.answered("e:0:0")
        assert generated.error == ""
        assert replica.engine.starts == [0, 0]


async def test_what_a_dead_engine_owes_may_be_asked_of_another_replica_at_once(
    start_replica: Start, jobs: Jobs, worker: Worker
) -> None:
    async with start_replica("r1") as replica, start_replica("r2"):
        await jobs.publish(any_manifest(0))
        for name in ("r1", "r2"):
            await jobs.acked(name, 0)
            await jobs.status(name, state="serving")
        replica.engine.gate.clear()
        await worker.ask("r1", "e:0:0")
        await until(lambda: _as_async(replica.engine.calls or None))
        replica.engine.die()
        (generated,) = await worker.answered("e:0:0")
        assert (generated.error, generated.retryable) == ("the engine of r1 failed", True)
        await until(lambda: _as_async(replica.engine.starts == [0, 0] or None))
        assert len(replica.engine.calls) == 1


async def test_what_a_dead_engine_owes_is_given_back_when_it_does_not_start_again(
    start_replica: Start, jobs: Jobs, worker: Worker
) -> None:
    async with start_replica() as replica:
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        replica.engine.gate.clear()
        await worker.ask("r1", "e:0:0")
        await until(lambda: _as_async(replica.engine.calls or None))
        replica.engine.break_on = {0}
        replica.engine.die()
        (generated,) = await worker.answered("e:0:0")
        assert (generated.error, generated.retryable) == ("no engine of r1 serves version 0", True)
        replica.engine.break_on.clear()
        replica.engine.gate.set()
        await worker.ask("r1", "e:1:0")
        (generated,) = await worker.answered("e:1:0")
        assert generated.error == ""


async def test_an_engine_that_dies_idle_is_started_again(start_replica: Start, jobs: Jobs) -> None:
    async with start_replica() as replica:
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        replica.engine.die()
        await until(lambda: _as_async(replica.engine.starts == [0, 0] or None))


async def test_the_end_of_a_job_leaves_the_engine_warm_for_the_next(start_replica: Start, jobs: Jobs) -> None:
    async with start_replica() as replica:
        await jobs.publish(any_manifest(0, job="one"))
        await jobs.acked("r1", 0, job="one")
        await jobs.end("one")
        await jobs.status("r1", state="idle", job_id=None, version=-1)
        await jobs.publish(any_manifest(0, job="two"))
        await jobs.acked("r1", 0, job="two")
        assert replica.engine.starts == [0]


async def test_a_job_that_was_left_and_taken_again_is_acknowledged_again(
    start_replica: Start, jobs: Jobs, worker: Worker
) -> None:
    """Publish again as a pause and a resume do: the manifest is the one that is served already."""
    async with start_replica() as replica:
        await jobs.publish(any_manifest(3))
        await jobs.acked("r1", 3)
        await jobs.end("job")
        await jobs.status("r1", state="idle", job_id=None)
        await jobs.publish(any_manifest(3))
        await jobs.acked("r1", 3)
        await jobs.status("r1", state="serving", job_id="job", version=3)
        await worker.ask("r1", "e:0:0")
        await worker.answered("e:0:0")
        assert replica.engine.starts == [3]


async def test_an_engine_that_dies_between_two_jobs_is_started_for_the_second(start_replica: Start, jobs: Jobs) -> None:
    async with start_replica() as replica:
        await jobs.publish(any_manifest(0, job="one"))
        await jobs.acked("r1", 0, job="one")
        await jobs.end("one")
        await jobs.status("r1", state="idle", job_id=None)
        replica.engine.die()
        await jobs.publish(any_manifest(0, job="two"))
        await jobs.acked("r1", 0, job="two")
        assert replica.engine.starts == [0, 0]


async def test_a_job_with_another_base_starts_the_engine_anew(start_replica: Start, jobs: Jobs) -> None:
    async with start_replica() as replica:
        await jobs.publish(any_manifest(0, job="one"))
        await jobs.acked("r1", 0, job="one")
        await jobs.end("one")
        await jobs.publish(any_manifest(0, job="two", base_sha="other"))
        await jobs.acked("r1", 0, job="two")
        assert replica.engine.starts == [0, 0]


async def test_two_replicas_take_two_jobs(start_replica: Start, jobs: Jobs) -> None:
    async with start_replica("r1"):
        await jobs.publish(any_manifest(0, job="one"))
        await jobs.publish(any_manifest(0, job="two"))
        first = await jobs.status("r1", state="serving")
        async with start_replica("r2"):
            second = await jobs.status("r2", state="serving")
        assert {first.job_id, second.job_id} == {"one", "two"}


async def test_a_replica_that_shares_its_job_goes_over_to_one_that_has_none(
    start_replica: Start, jobs: Jobs, worker: Worker
) -> None:
    async with start_replica("r1"), start_replica("r2") as second:
        await jobs.publish(any_manifest(0))
        await jobs.status("r1", state="serving", job_id="job")
        await jobs.status("r2", state="serving", job_id="job")
        second.engine.gate.clear()
        await worker.ask("r2", "e:0:0")
        await until(lambda: _pending(jobs.redis, "r2", 1))
        await jobs.publish(any_manifest(0, job="job2"))
        await jobs.status("r2", state="idle", job_id=None)
        second.engine.gate.set()
        (answer,) = await worker.answered("e:0:0")
        assert answer.error == "", "what it began is answered with the weights of its job"
        await jobs.status("r2", state="serving", job_id="job2")
        await jobs.publish(any_manifest(0, job="job3"))
        await asyncio.sleep(3)  # looks of both
        await jobs.status("r1", state="serving", job_id="job")
        await jobs.status("r2", state="serving", job_id="job2")


async def test_a_request_of_a_job_served_elsewhere_is_sent_back(
    start_replica: Start, jobs: Jobs, worker: Worker
) -> None:
    async with start_replica():
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        await worker.ask("r1", "e:0:0", job="other")
        (generated,) = await worker.answered("e:0:0")
        assert generated.error
        assert generated.retryable


async def test_a_dead_replica_s_requests_are_adopted_read_or_not(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    dead = ReplicaStatus(replica="r0", job_id="job", version=0, engine="fake", state="serving")
    await redis.hset(keys.REPLICAS, "r0", dead.model_dump_json())
    await redis.xgroup_create(keys.requests_stream("r0"), GROUP, id="0", mkstream=True)
    await worker.ask("r0", "read")
    await redis.xreadgroup(GROUP, "r0", {keys.requests_stream("r0"): ">"})
    await worker.ask("r0", "unread")
    large = [f"large {i}" for i in range(300)]  # in one request, which lies beside the stream
    await worker.ask("r0", *large)
    await jobs.publish(any_manifest(0))
    async with start_replica("r1"):
        for generated in await worker.answered("read", "unread", *large):
            assert generated.error == ""
        await until(lambda: _emptied(redis, keys.requests_stream("r0")))  # after the copy was answered
        await until(lambda: _without(redis, payload_key("{inference:*}:requests", "*")))


async def _without(redis: Redis, pattern: str) -> bool | None:
    """Whether there is no such key."""
    return None if [one async for one in redis.scan_iter(pattern)] else True


async def _emptied(redis: Redis, stream: str) -> bool | None:
    return True if await redis.xlen(stream) == 0 else None


async def test_a_replica_s_row_that_cannot_be_read_ends_no_loop(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    await redis.hset(keys.REPLICAS, "newer", '{"of": "another version"}')
    async with start_replica():
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        await looked_around(redis, "r1")
        await worker.ask("r1", "e:0:0")
        assert (await worker.answered("e:0:0"))[0].error == ""


async def test_a_live_replica_s_requests_are_left_alone(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    live = ReplicaStatus(replica="r0", job_id="job", version=0, engine="fake", state="serving")
    await redis.hset(keys.REPLICAS, "r0", live.model_dump_json())
    await redis.set(keys.replica_heartbeat("r0"), "r0")
    await worker.ask("r0", "e:0:0")
    await jobs.publish(any_manifest(0))
    async with start_replica("r1") as replica:
        await jobs.acked("r1", 0)
        await worker.ask("r1", "e:1:0")
        await worker.answered("e:1:0")
        assert sum(len(call) for call in replica.engine.calls) == 1
    assert await redis.xlen(keys.requests_stream("r0")) == 1


async def test_a_stopping_replica_answers_what_it_took_and_signs_off(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    async with start_replica() as replica:
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        replica.engine.gate.clear()
        await worker.ask("r1", "e:0:0")
        await until(lambda: _as_async(replica.engine.calls or None))
        asyncio.get_running_loop().call_later(0.1, replica.engine.gate.set)
    (generated,) = await worker.answered("e:0:0")
    assert generated.error == ""
    assert not replica.engine.up
    assert await redis.hget(keys.REPLICAS, "r1") is None
    assert await redis.exists(keys.replica_heartbeat("r1"), keys.requests_stream("r1")) == 0


async def test_what_a_stopping_replica_cannot_answer_is_left_for_another(
    start_replica: Start, jobs: Jobs, worker: Worker
) -> None:
    async with start_replica("r1", drain_s=0.05) as replica:
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        replica.engine.gate.clear()
        await worker.ask("r1", "e:0:0")
        await until(lambda: _as_async(replica.engine.calls or None))
    async with start_replica("r2"):
        (generated,) = await worker.answered("e:0:0")
        assert generated.error == ""


async def _counted(redis: Redis, unreadable: int) -> object:
    """True once the replica's heartbeat says that it set so many requests aside."""
    (beat,) = await present_instances(redis, "inference")
    return True if beat.detail["counters"]["unreadable_requests"] == unreadable else None


async def test_bytes_that_are_no_request_do_not_stop_the_others(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    async with start_replica():
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        ids = [await redis.xadd(keys.requests_stream("r1"), fields) for fields in POISON]
        for number, changes in enumerate(IMPOSSIBLE):
            await worker.ask("r1", f"bad:{number}:0", **changes)
        await redis.xadd(keys.requests_stream("r1"), {FIELD: encode(odd_prompt(worker))})
        await worker.ask("r1", "e:0:0")
        await worker.answered("e:0:0")
        await until(lambda: _length(redis, "r1", 0))
        await until(lambda: _counted(redis, len(POISON) + len(IMPOSSIBLE) + 1))
    letters = [letter for _, letter in await redis.xrange(dead_letters(keys.requests_stream("r1")))]
    assert [letter[b"id"] for letter in letters][: len(ids)] == ids
    assert len(letters) == len(POISON) + len(IMPOSSIBLE) + 1
    events = [decode(fields[FIELD], JobEvent) for _, fields in await redis.xrange(keys.events_stream("job"))]
    for letter, event in zip(letters, events, strict=True):
        assert letter[b"cause"].decode().partition("; of ")[0] in event.data["message"]


async def test_a_dead_replica_s_stream_is_adopted_whatever_lies_in_it(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    dead = ReplicaStatus(replica="r0", job_id="job", version=0, engine="fake", state="serving")
    await redis.hset(keys.REPLICAS, "r0", dead.model_dump_json())
    await redis.xadd(keys.requests_stream("r0"), {b"q": b"x"})
    await worker.ask("r0", "unread")
    await redis.hset(keys.REPLICAS, "r9", dead.model_copy(update={"replica": "r9"}).model_dump_json())
    await redis.set(keys.requests_stream("r9"), "x")
    await jobs.publish(any_manifest(0))
    async with start_replica("r1"):
        await worker.answered("unread")
        await until(lambda: _length(redis, "r1", 0))
        assert await redis.xlen(dead_letters(keys.requests_stream("r1"))) == 1
        await looked_around(redis, "r1")
        await worker.ask("r1", "e:0:0")
        await worker.answered("e:0:0")


async def test_no_value_of_another_kind_stops_a_replica(
    start_replica: Start, jobs: Jobs, worker: Worker, redis: Redis
) -> None:
    await redis.sadd(keys.ACTIVE_JOBS, b"\xff\xfe", "nobody", "a_bad_type", "a_bad_text", "a_other")
    await redis.hset(keys.policy("a_bad_type"), "x", "y")
    await redis.set(keys.policy("a_bad_text"), b"\xff{")
    await redis.set(keys.policy("a_other"), any_manifest(0).model_dump_json())
    await redis.hset(keys.REPLICAS, mapping={b"\xff\xfe": b"x", b"r9": b"\xff{"})
    await redis.set(keys.policy_acks("job"), "x")
    await jobs.publish(any_manifest(0))
    async with start_replica():
        await until(lambda: _misplaced(redis, keys.policy_acks("job")))
        await jobs.acked("r1", 0)
        await redis.set(keys.requests_stream("r1"), "x")
        await redis.set(keys.replies_stream("w1"), "x")
        await until(lambda: _misplaced(redis, keys.requests_stream("r1")))
        await worker.ask("r1", "e:0:0")
        await until(lambda: _misplaced(redis, keys.replies_stream("w1")))
        await worker.answered("e:0:0")
        await redis.set(keys.REPLICAS, "x")
        await redis.set(keys.policy("job"), b"\xff{")
        await until(lambda: _misplaced(redis, keys.REPLICAS))
        await looked_around(redis, "r1")
        await jobs.publish(any_manifest(1))
        await jobs.acked("r1", 1)
        await redis.set(keys.policy_acks("job"), "x")
        await jobs.end("job")
        await jobs.status("r1", state="idle")


async def test_a_replica_whose_engine_raises_what_it_should_not_serves_the_next_version(
    start_replica: Start, jobs: Jobs, redis: Redis
) -> None:
    async with start_replica() as replica:
        await jobs.publish(any_manifest(0))
        await jobs.acked("r1", 0)
        replica.engine.defects = {1}
        await jobs.publish(any_manifest(1))
        event = await until(lambda: _first_event(redis))
        assert isinstance(event, JobEvent)
        assert "a defect of the engine" in event.data["message"]
        await jobs.publish(any_manifest(2))
        await jobs.acked("r1", 2)


async def test_the_heartbeat_tells_what_the_service_does(start_replica: Start, redis: Redis) -> None:
    async with start_replica():
        (beat,) = await present_instances(redis)
        assert (beat.service, beat.instance, beat.pid) == ("inference", "r1", os.getpid())
        assert beat.detail["counters"]["expired"] == 0


async def looked_around(redis: Redis, replica: str) -> None:
    """Return once the replica has looked around twice from now on; each time it shows its row anew first."""
    for _ in range(3):  # what comes first may belong to a look that is under way
        await redis.hdel(keys.REPLICAS, replica)
        await until(lambda: _row(redis, replica))


async def _row(redis: Redis, replica: str) -> object:
    return await redis.hget(keys.REPLICAS, replica)


async def _as_async(value: object) -> object:
    return value


async def _pending(redis: Redis, replica: str, count: int) -> object:
    summary = await redis.xpending(keys.requests_stream(replica), GROUP)
    return True if summary["pending"] == count else None


async def _length(redis: Redis, replica: str, count: int) -> object:
    return True if await redis.xlen(keys.requests_stream(replica)) == count else None


async def _misplaced(redis: Redis, key: str) -> object:
    return True if await redis.exists(aside(key)) else None


async def _first_event(redis: Redis) -> JobEvent | None:
    entries = await redis.xrange(keys.events_stream("job"), count=1)
    return decode(entries[0][1][FIELD], JobEvent) if entries else None
