"""Asking replicas through Redis: joined, routed, asked again elsewhere."""

import asyncio
import contextlib

import pytest
from msgspec.structs import replace

from services.contracts import keys, messages
from services.contracts.arrays import pack_int32
from services.contracts.messages import Generated, GenerateItem, GenerateReply, JobEvent, decode, encode
from services.contracts.sampling import Sampling
from services.kit.dead_letters import aside, dead_letters
from services.kit.streams import FIELD
from services.rollout.errors import InferenceFault
from services.rollout.inference import connected_inference
from services.rollout.limits import InferenceLimits
from services.rollout.ports import Ask
from services.rollout.routes import ranked
from tests.integration.rollout.fake_replica import FakeReplica, serving

JOB = "job_1"
REPLIES = [[3, 4, 1], [5, 1]]
LIMITS = InferenceLimits(generate_attempts=4, replica_wait_s=20, replica_poll_s=0.02, lost_poll_s=0.05)


def ask(i: int = 0, group: str = "g1") -> Ask:
    item = GenerateItem(pack_int32([3, 4]), i, item_id=f"{JOB}/{group}/0:{i}:1")
    return Ask(JOB, group, f"{group}/0", item, 0, Sampling(1.0, 8, (1,)))


@pytest.fixture
async def replicas(redis):
    """Makes running replicas r1, r2, ..."""
    async with contextlib.AsyncExitStack() as stack:
        names = iter(["r1", "r2", "r3"])

        async def start(**behaviour) -> FakeReplica:
            replica = FakeReplica(redis, JOB, REPLIES, name=next(names))
            for name, value in behaviour.items():
                setattr(replica, name, value)
            await replica.show()
            return await stack.enter_async_context(serving(replica))

        yield start


async def test_prompts_of_a_moment_go_out_in_one_request(redis, replicas):
    replica = await replicas()
    async with connected_inference(redis, "w", LIMITS) as inference:
        await inference.generate(ask(999))
        before = replica.requests
        answers = await asyncio.gather(*(inference.generate(ask(i)) for i in range(100)))
    assert replica.requests == before + 1
    assert [answer.response_ids for answer in answers] == [
        replica.sampled[ask(i).item.item_id].response_ids for i in range(100)
    ]


async def test_an_episode_stays_with_one_replica_and_episodes_are_shared_evenly(redis, replicas):
    both = [await replicas(), await replicas()]
    groups = [f"g{i}" for i in range(12)]
    async with connected_inference(redis, "w", LIMITS) as inference:
        for step in range(3):
            await asyncio.gather(*(inference.generate(ask(step, group)) for group in groups))
    served = [{item.split("/")[1] for item in replica.sampled} for replica in both]
    assert served[0] | served[1] == set(groups)
    assert [len(some) for some in served] == [6, 6]


async def test_a_replica_that_owes_others_much_is_left_alone(redis, replicas):
    busy, idle = ranked("g1", ["r1", "r2"])
    both = {name: await replicas(outstanding_tokens=1_000 * (name == busy)) for name in ("r1", "r2")}
    async with connected_inference(redis, "w", LIMITS) as inference:
        await inference.generate(ask())
    assert (both[busy].items, both[idle].items) == (0, 1)


async def test_prompts_that_fit_no_message_together_travel_in_several(redis, replicas, monkeypatch):
    replica = await replicas()
    replica.silent = True
    async with connected_inference(redis, "w", LIMITS) as inference:
        monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", 600)
        waiting = [asyncio.create_task(inference.generate(ask(i))) for i in range(16)]
        async with asyncio.timeout(60):
            while replica.items < 16:
                await asyncio.sleep(0.01)
        assert replica.requests > 1
        monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", 30)
        with pytest.raises(InferenceFault, match="GenerateRequest: want at most 30 bytes"):
            await inference.generate(ask(99))
        monkeypatch.undo()
        replica.silent = False
        await replica.answer_late()
        assert len(await asyncio.gather(*waiting)) == 16


async def test_a_prompt_of_a_dead_replica_goes_to_a_live_one_under_the_same_id(redis, replicas):
    both = {replica.name: replica for replica in [await replicas(), await replicas()]}
    dying, other = (both[name] for name in ranked("g1", ["r1", "r2"]))
    dying.silent = True
    async with connected_inference(redis, "w", LIMITS) as inference:
        waiting = [asyncio.create_task(inference.generate(ask(i))) for i in range(5)]
        while dying.items < 5:
            await asyncio.sleep(0.01)
        await dying.stop_beating()
        answers = await asyncio.gather(*waiting)
    assert set(other.sampled) == {ask(i).item.item_id for i in range(5)}
    assert [answer.response_ids for answer in answers] == [
        other.sampled[ask(i).item.item_id].response_ids for i in range(5)
    ]


async def test_a_prompt_for_a_replica_that_has_signed_off_leaves_nothing_behind(redis):
    """The worker last looked at the table before; nobody would ever read or delete what it sends."""
    gone, other = (FakeReplica(redis, JOB, REPLIES, name=name) for name in ranked("g1", ["r1", "r2"]))
    limits = InferenceLimits(generate_attempts=1, replica_wait_s=20, replica_poll_s=3_600)
    async with serving(other):
        await gone.show()
        await other.show()
        async with connected_inference(redis, "w", limits) as inference:
            async with serving(gone):
                await inference.generate(ask(0))
            await gone.sign_off()
            await inference.generate(ask(1))
    assert [*other.sampled] == [ask(1).item.item_id]
    assert not await redis.exists(keys.requests_stream(gone.name))


async def test_a_slow_replica_is_waited_for_however_long_it_takes(redis, replicas):
    """Longer than every limit, with another replica that would answer at once."""
    both = {replica.name: replica for replica in [await replicas(), await replicas()]}
    slow, other = (both[name] for name in ranked("g1", ["r1", "r2"]))
    slow.silent = True
    limits = InferenceLimits(generate_attempts=1, replica_wait_s=0.2, replica_poll_s=0.02, lost_poll_s=0.02)
    async with connected_inference(redis, "w", limits) as inference:
        waiting = asyncio.create_task(inference.generate(ask()))
        while not slow.items:
            await asyncio.sleep(0.01)
        await asyncio.sleep(1.0)
        await slow.answer_late()
        await waiting
    assert (slow.items, other.items) == (1, 0)


async def test_patience_for_refusals_begins_with_the_first_one(redis, replicas):
    """The engine that worked on the prompt for long was lost: there is still time to find another one."""
    replica = await replicas(refusal="the engine failed", late_s=0.8)
    limits = InferenceLimits(replica_wait_s=0.5, replica_poll_s=0.02)
    async with connected_inference(redis, "w", limits) as inference:
        waiting = asyncio.create_task(inference.generate(ask()))
        while not replica.refused:
            await asyncio.sleep(0.01)
        replica.refusal, replica.late_s = "", 0.0
        await waiting
    assert replica.items == 2


async def test_a_request_that_was_lost_is_sent_again(redis, replicas):
    """Lose the request as a Redis does that was restarted from an older copy."""
    replica = await replicas(silent=True)
    async with connected_inference(redis, "w", LIMITS) as inference:
        waiting = asyncio.create_task(inference.generate(ask()))
        while not replica.items:
            await asyncio.sleep(0.01)
        replica.silent = False
        await redis.xtrim(keys.requests_stream("r1"), maxlen=0, approximate=False)
        await waiting
    assert replica.items == 2


async def test_requests_that_are_lost_again_and_again_blame_no_prompt(redis, replicas):
    """Lose an attempt while Redis is restored: it is played again without counting."""
    replica = await replicas(silent=True)
    limits = InferenceLimits(generate_attempts=2, replica_wait_s=3, replica_poll_s=0.02, lost_poll_s=0.02)
    async with connected_inference(redis, "w", limits) as inference:
        waiting = asyncio.create_task(inference.generate(ask()))
        while not waiting.done():
            await redis.xtrim(keys.requests_stream("r1"), maxlen=0, approximate=False)
            await asyncio.sleep(0.02)
        with pytest.raises(InferenceFault, match=r"the request is gone and no answer came") as fault:
            await waiting
    assert fault.value.lost
    assert replica.items > limits.generate_attempts


async def test_a_replica_that_turns_to_another_job_is_no_death(redis, replicas):
    """The prompt is not the cause, so it does not count as one on which replicas die."""
    replica = await replicas(silent=True)
    limits = InferenceLimits(generate_attempts=1, replica_wait_s=20, replica_poll_s=0.02)
    async with connected_inference(redis, "w", limits) as inference:
        waiting = asyncio.create_task(inference.generate(ask()))
        while not replica.items:
            await asyncio.sleep(0.01)
        replica.silent = False
        await replica.turn_to("job_2")
        while not await causes(redis):
            await asyncio.sleep(0.01)
        await replica.turn_to(JOB)
        await waiting
    assert await causes(redis) == ["a prompt is retried: r1: turned to another job before it answered"]


async def causes(redis) -> list[str]:
    """Those that the job's user was warned of."""
    found = await redis.xrange(keys.events_stream(JOB))
    return [str(decode(fields[FIELD], JobEvent).data["message"]) for _, fields in found]


LARGE = pack_int32([3, 4] * 4_000)


async def test_large_prompts_lie_beside_the_stream_of_requests(redis, replicas):
    replica = await replicas(silent=True)
    large = replace(ask(), item=replace(ask().item, prompt_ids=LARGE))
    async with connected_inference(redis, "w", LIMITS) as inference:
        waiting = asyncio.create_task(inference.generate(large))
        while not replica.items:
            await asyncio.sleep(0.01)
        ((_, fields),) = await redis.xrange(keys.requests_stream("r1"))
        assert FIELD not in fields
        assert [item.prompt_ids for request in replica.owed for item in request.items] == [LARGE]
        await replica.answer_late()
        await waiting


async def test_a_refusal_that_may_be_repeated_is_repeated_and_then_given_up(redis, replicas):
    replica = await replicas(refusal="the engine starts")
    limits = InferenceLimits(replica_wait_s=0.5, replica_poll_s=0.02)
    async with connected_inference(redis, "w", limits) as inference:
        with pytest.raises(
            InferenceFault, match=r"sent \d times without an answer, the last time: r1: the engine starts"
        ):
            await inference.generate(ask())
        assert replica.items > 1
    asked = replica.items
    async with connected_inference(redis, "w", LIMITS) as inference:
        waiting = asyncio.create_task(inference.generate(ask(1)))
        while replica.items < asked + 4:
            await asyncio.sleep(0.01)
        replica.refusal = ""
        assert (await waiting).response_ids == replica.sampled[ask(1).item.item_id].response_ids


async def test_a_prompt_on_which_replicas_die_is_given_up_after_so_many(redis, replicas):
    first, second = await replicas(silent=True), await replicas(silent=True)
    limits = InferenceLimits(generate_attempts=2, replica_poll_s=0.02)
    async with connected_inference(redis, "w", limits) as inference:
        waiting = asyncio.create_task(inference.generate(ask()))
        for name in ranked("g1", ["r1", "r2"]):
            replica = {"r1": first, "r2": second}[name]
            while not replica.items:
                await asyncio.sleep(0.01)
            await replica.stop_beating()
        with pytest.raises(
            InferenceFault, match=r"sent 2 times without an answer, the last time: r\d: gone before it answered"
        ) as fault:
            await waiting
    assert not fault.value.lost


@pytest.mark.parametrize("requests_left", [True, False])
async def test_replicas_that_drain_one_after_the_other_blame_no_prompt(redis, replicas, requests_left):
    """As in an upgrade: with requests left they stay in the table, draining and without a heartbeat."""
    old = {name: await replicas(silent=True) for name in ("r1", "r2")}
    limits = InferenceLimits(generate_attempts=1, replica_wait_s=20, replica_poll_s=0.02)
    async with connected_inference(redis, "w", limits) as inference:
        waiting = asyncio.create_task(inference.generate(ask()))
        for name in ranked("g1", ["r1", "r2"]):
            while not old[name].items:
                await asyncio.sleep(0.01)
            if requests_left:
                await old[name].show("draining")
                await old[name].stop_beating()
            else:
                await redis.hdel(keys.REPLICAS, name)
        new = await replicas()
        await waiting
    assert [*new.sampled] == [ask().item.item_id]


async def answered_by_hand(redis, generated: Generated) -> None:
    """Send one item to a replica that does nothing, and answer it by hand."""
    replica = FakeReplica(redis, JOB, REPLIES)
    await replica.show()
    async with connected_inference(redis, "w", LIMITS) as inference:
        waiting = asyncio.create_task(inference.generate(ask()))
        while not await redis.xlen(keys.requests_stream("r1")):
            await asyncio.sleep(0.01)
        reply = GenerateReply(replica="r1", results=[generated])
        for payload in (b"no message", encode(GenerateReply(replica="r1", results=[])), encode(reply), encode(reply)):
            await redis.xadd(keys.replies_stream("w"), {FIELD: payload})
        await waiting


async def test_a_refusal_for_good_is_not_repeated(redis):
    with pytest.raises(InferenceFault, match="r1: the prompt does not fit"):
        await answered_by_hand(redis, Generated.refusal(ask().item.item_id, "the prompt does not fit", retryable=False))
    assert await redis.xlen(keys.requests_stream("r1")) == 1


async def test_an_answer_that_is_no_row_of_tokens_is_a_fault(redis):
    with pytest.raises(InferenceFault, match="of one length"):
        await answered_by_hand(redis, Generated(b"1234", b"", b"1234", item_id=ask().item.item_id))


async def test_without_a_replica_of_the_job_the_wait_ends(redis):
    other = FakeReplica(redis, "job_2", REPLIES, name="r1")
    await other.show()
    starting = FakeReplica(redis, JOB, REPLIES, name="r2")
    await starting.show("starting")
    limits = InferenceLimits(replica_wait_s=0.2, replica_poll_s=0.02)
    async with connected_inference(redis, "w", limits) as inference:
        with pytest.raises(InferenceFault, match="no live replica serves the job"):
            await inference.generate(ask())


async def test_a_prompt_that_waits_for_a_replica_is_told_to_the_jobs_owner(redis, replicas):
    limits = InferenceLimits(replica_wait_s=60, replica_poll_s=0.02, tell_after_s=0.05)
    async with connected_inference(redis, "w", limits) as inference:
        waiting = asyncio.create_task(inference.generate(ask()))
        while not await redis.xlen(keys.events_stream(JOB)):
            await asyncio.sleep(0.01)
        await replicas()
        await waiting
    ((_, fields),) = await redis.xrange(keys.events_stream(JOB))
    message = "prompts wait: no live inference replica serves the job"
    assert decode(fields[FIELD], JobEvent).data == {"service": "rollout", "message": message}


async def test_a_prompt_waits_for_a_replica_that_comes_up(redis, replicas):
    async with connected_inference(redis, "w", LIMITS) as inference:
        waiting = asyncio.create_task(inference.generate(ask()))
        await asyncio.sleep(0.1)
        replica = await replicas()
        await waiting
    assert replica.items == 1


async def test_taken_replies_are_freed_and_nothing_is_left_at_the_end(redis, replicas):
    await replicas()
    async with connected_inference(redis, "w", LIMITS) as inference:
        for i in range(5):
            await inference.generate(ask(i))
        while await redis.xlen(keys.replies_stream("w")) > 1:
            await asyncio.sleep(0.01)
    assert not await redis.exists(keys.replies_stream("w"))


POISON = [{b"q": b"x"}, {FIELD: b""}, {FIELD: b"\xff\xfe"}, {FIELD: b"\xff" * 20_000_000}]


async def test_replies_that_are_none_are_set_aside_and_the_others_are_taken(redis, replicas):
    replica = await replicas()
    async with connected_inference(redis, "w", LIMITS) as inference:
        for i, fields in enumerate(POISON):
            await redis.xadd(keys.replies_stream("w"), fields)
            assert (await inference.generate(ask(i))).response_ids == replica.sampled[ask(i).item.item_id].response_ids
        assert await redis.xlen(dead_letters(keys.replies_stream("w"))) == len(POISON)
    assert not await redis.exists(dead_letters(keys.replies_stream("w")))


async def test_no_key_of_another_type_and_no_row_that_is_none_stops_the_answers(redis, replicas):
    replica = await replicas()
    async with connected_inference(redis, "w", LIMITS) as inference:
        await inference.generate(ask(0))
        await redis.hset(keys.REPLICAS, mapping={b"\xff\xfe": b"x", b"r9": b"\xff{", b"": b""})
        await inference.generate(ask(1))
        await redis.set(keys.replies_stream("w"), "x")
        await redis.set(keys.requests_stream("r1"), "x")
        await inference.generate(ask(2))
        await redis.set(keys.REPLICAS, "x")
        while not await redis.exists(aside(keys.REPLICAS)):
            await asyncio.sleep(0.01)
        await replica.show()
        await inference.generate(ask(3))
