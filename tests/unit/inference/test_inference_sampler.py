import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from services.contracts.arrays import pack_int32, unpack_int32
from services.contracts.messages import Generated, GenerateItem, GenerateRequest
from services.inference.sampler import MOST_TRIES, Sampler, SamplerLimits
from tests.unit.inference.fake_engine import FakeEngine
from tests.unit.inference.policy_versions import any_manifest


@dataclass
class Clock:
    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Asker:
    """Asks a sampler and keeps what it delivers."""

    sampler: Sampler
    answers: dict[str, list[Generated | None]] = field(default_factory=dict)

    def ask(self, item_id: str, *, ids: tuple[int, ...] = (3, 4, 5), seed: int = 1, **changes: object) -> None:
        item = GenerateItem(item_id=item_id, prompt_ids=pack_int32(ids), seed=seed)
        fields = {
            "job_id": "job",
            "reply_to": "replies",
            "min_version": 0,
            "temperature": 1.0,
            "max_tokens": 4,
            "stop_token_ids": [1],
            "deadline_unix_s": 2_000.0,
        }
        request = GenerateRequest(items=[item], **(fields | changes))  # type: ignore[arg-type]
        self.sampler.ask(request, item, lambda generated: self.answers.setdefault(item_id, []).append(generated))

    def only(self, item_id: str) -> Generated:
        (answer,) = self.answers[item_id]
        assert answer is not None
        return answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def engine() -> FakeEngine:
    engine = FakeEngine()
    await engine.start(any_manifest(0))
    return engine


@pytest.fixture
async def asker(clock: Clock) -> AsyncIterator[Asker]:
    async with running(Sampler(SamplerLimits(max_batch=8, linger_s=0.0), clock)) as asker:
        yield asker


@asynccontextmanager
async def running(sampler: Sampler) -> AsyncIterator[Asker]:
    task = asyncio.create_task(sampler.run())
    yield Asker(sampler)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def settle() -> None:
    """Let everything run that can run without time passing."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_prompts_asked_together_are_sampled_in_one_call(asker: Asker, engine: FakeEngine) -> None:
    asker.sampler.serve(engine, 0)
    for number in range(5):
        asker.ask(f"e:{number}:0", seed=number)
    await asker.sampler.idle()
    assert [len(call) for call in engine.calls] == [5]
    assert len({asker.only(f"e:{number}:0").response_ids for number in range(5)}) > 1


async def test_a_call_carries_no_more_than_the_engine_batches(asker: Asker, engine: FakeEngine) -> None:
    asker.sampler.serve(engine, 0)
    for number in range(20):
        asker.ask(f"e:{number}:0")
    await asker.sampler.idle()
    assert sorted(len(call) for call in engine.calls) == [4, 8, 8]


async def test_prompts_sampled_differently_go_in_different_calls(asker: Asker, engine: FakeEngine) -> None:
    asker.sampler.serve(engine, 0)
    asker.ask("e:0:0")
    asker.ask("e:1:0", temperature=0.5)
    await asker.sampler.idle()
    assert [len(call) for call in engine.calls] == [1, 1]


async def test_a_repeated_question_gets_the_same_answer_without_sampling(asker: Asker, engine: FakeEngine) -> None:
    asker.sampler.serve(engine, 0)
    asker.ask("e:0:0", seed=1)
    await asker.sampler.idle()
    asker.ask("e:0:0", seed=2)
    first, second = asker.answers["e:0:0"]
    assert first == second
    assert len(engine.calls) == 1
    assert asker.sampler.counters.repeated == 1


async def test_a_question_repeated_while_it_is_sampled_is_sampled_once(asker: Asker, engine: FakeEngine) -> None:
    engine.gate.clear()
    asker.sampler.serve(engine, 0)
    asker.ask("e:0:0")
    await settle()
    asker.ask("e:0:0")
    engine.gate.set()
    await asker.sampler.idle()
    first, second = asker.answers["e:0:0"]
    assert first == second
    assert len(engine.calls) == 1


async def test_the_same_item_of_two_jobs_is_two_questions(asker: Asker, engine: FakeEngine) -> None:
    asker.sampler.serve(engine, 0)
    asker.ask("e:0:0", seed=1)
    asker.ask("e:0:0", seed=2, job_id="other")
    await asker.sampler.idle()
    assert sum(len(call) for call in engine.calls) == 2


async def test_a_prompt_waits_for_the_version_it_needs(asker: Asker, engine: FakeEngine) -> None:
    asker.sampler.serve(engine, 0)
    asker.ask("e:0:0", min_version=1)
    await settle()
    assert engine.calls == []
    await engine.update(any_manifest(1))
    asker.sampler.serve(engine, 1)
    await asker.sampler.idle()
    assert set(unpack_int32(asker.only("e:0:0").versions)) == {1}


async def test_a_prompt_past_its_deadline_is_dropped_and_counted(
    asker: Asker, engine: FakeEngine, clock: Clock
) -> None:
    asker.ask("e:0:0", deadline_unix_s=1_001.0)
    await settle()
    clock.now = 1_002.0
    asker.sampler.serve(engine, 0)
    await asker.sampler.idle()
    assert asker.answers["e:0:0"] == [None]
    assert engine.calls == []
    assert asker.sampler.counters.expired == 1


async def test_what_a_dying_engine_owes_is_sampled_by_its_successor(asker: Asker, engine: FakeEngine) -> None:
    engine.gate.clear()
    asker.sampler.serve(engine, 0)
    asker.ask("e:0:0")
    asker.ask("e:1:0")
    await settle()
    engine.die()
    await asker.sampler.engine_failed.wait()
    assert asker.answers == {}
    successor = FakeEngine()
    await successor.start(any_manifest(0))
    asker.sampler.serve(successor, 0)
    await asker.sampler.idle()
    assert asker.only("e:0:0").error == asker.only("e:1:0").error == ""
    assert sum(len(call) for call in successor.calls) == 2


async def test_an_answer_that_nobody_foresaw_counts_as_a_broken_engine(asker: Asker, engine: FakeEngine) -> None:
    engine.surprise = KeyError("token_ids")
    asker.sampler.serve(engine, 0)
    asker.ask("e:0:0")
    await asker.sampler.engine_failed.wait()
    engine.surprise = None
    asker.sampler.serve(engine, 0)
    await asker.sampler.idle()
    assert asker.only("e:0:0").error == ""


async def test_a_prompt_that_ends_every_engine_is_given_up(asker: Asker, engine: FakeEngine) -> None:
    asker.ask("e:0:0")
    for _ in range(MOST_TRIES):
        await engine.start(any_manifest(0))
        engine.gate.clear()
        asker.sampler.serve(engine, 0)
        await settle()
        engine.die()
        await asker.sampler.engine_failed.wait()
    answer = asker.only("e:0:0")
    assert "failed 3 times" in answer.error
    assert not answer.retryable


async def test_a_prompt_that_does_not_fit_is_refused_for_good(asker: Asker, engine: FakeEngine) -> None:
    asker.sampler.serve(engine, 0)
    asker.ask("e:0:0", ids=(3,) * 128)
    await asker.sampler.idle()
    answer = asker.only("e:0:0")
    assert answer.error
    assert not answer.retryable


async def test_an_ended_job_s_prompts_may_be_asked_elsewhere(asker: Asker) -> None:
    asker.ask("e:0:0")
    asker.sampler.refuse_all("job is over")
    answer = asker.only("e:0:0")
    assert answer.error == "job is over"
    assert answer.retryable
    assert asker.sampler.outstanding == 0


async def test_what_is_owed_is_the_prompts_and_the_most_that_may_be_sampled(asker: Asker, engine: FakeEngine) -> None:
    asker.ask("e:0:0", ids=(3, 4, 5), max_tokens=4)
    asker.ask("e:1:0", ids=(3,), max_tokens=8)
    assert asker.sampler.outstanding_tokens == 3 + 4 + 1 + 8
    asker.sampler.serve(engine, 0)
    await asker.sampler.idle()
    assert asker.sampler.outstanding_tokens == 0


async def test_a_refused_question_may_be_asked_again(asker: Asker, engine: FakeEngine) -> None:
    asker.ask("e:0:0")
    asker.sampler.refuse_all("job is over")
    asker.sampler.serve(engine, 0)
    asker.ask("e:0:0")
    await asker.sampler.idle()
    assert asker.answers["e:0:0"][1].response_ids  # type: ignore[union-attr]


async def test_while_the_engine_is_busy_prompts_gather(clock: Clock, engine: FakeEngine) -> None:
    async with running(Sampler(SamplerLimits(max_batch=8, linger_s=0.05), clock)) as asker:
        engine.gate.clear()
        asker.sampler.serve(engine, 0)
        asker.ask("e:0:0")
        await settle()
        for number in range(1, 4):
            asker.ask(f"e:{number}:0")
            await settle()
        engine.gate.set()
        await asker.sampler.idle()
    assert [len(call) for call in engine.calls] == [1, 3]
