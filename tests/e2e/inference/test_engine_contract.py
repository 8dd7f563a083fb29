"""What every engine must do, on each of them: the fake of the tests, transformers, and a real vLLM server."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
import torch

from gigpo_core.turns import lone_turn
from services.contracts.arrays import unpack_float32, unpack_int32
from services.contracts.guidance import unpack_allowed
from services.contracts.policy import PolicyManifest
from services.contracts.sampling import Prompt, SampledTokens, Sampling
from services.inference.engine import Engine, Outcome, Refusal, UpdateRejected
from services.inference.probe import wrong_weights
from services.inference.transformers_engine import TransformersEngine
from services.inference.vllm_engine import VllmEngine, VllmSettings
from services.trainer.learner.token_rows import TokenRows
from tests.e2e.inference.conftest import (
    MAX_MODEL_LEN,
    WORDS,
    Policies,
    assert_logprobs_agree,
    packed,
    prompt_ids,
    until_group_is_gone,
)
from tests.unit.inference.fake_engine import FakeEngine

pytestmark = pytest.mark.asyncio(loop_scope="module")

REAL = ["transformers", pytest.param("vllm", marks=pytest.mark.vllm)]
SAMPLING = Sampling(temperature=1.0, max_tokens=6, stop_token_ids=(1,))


@pytest.fixture(scope="module")
def makers(policies: Policies, request: pytest.FixtureRequest) -> dict[str, Callable[[], Engine]]:
    def vllm() -> Engine:
        python = request.getfixturevalue("vllm_python")
        return VllmEngine(VllmSettings(python=python, data_dir=policies.data_dir, log=policies.data_dir / "vllm.log"))

    return {"fake": FakeEngine, "transformers": lambda: TransformersEngine(policies.data_dir), "vllm": vllm}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engines(makers: dict[str, Callable[[], Engine]]) -> AsyncIterator[dict[str, Engine]]:
    """Engines made so far, by name; each serves the whole module, because a server takes long to start."""
    made: dict[str, Engine] = {}
    yield made
    for engine in made.values():
        await engine.stop()


@pytest_asyncio.fixture(loop_scope="module", params=["fake", *REAL])
async def engine(
    request: pytest.FixtureRequest,
    engines: dict[str, Engine],
    makers: dict[str, Callable[[], Engine]],
    policies: Policies,
) -> Engine:
    """The engine named by the test's parameter, serving version 0."""
    name: str = request.param
    if name not in engines:
        engines[name] = makers[name]()
    await engines[name].start(policies.version(0, engine=name))
    return engines[name]


real_engines = pytest.mark.parametrize("engine", REAL, indirect=True)


async def sample(engine: Engine, prompts: list[list[int]], sampling: Sampling = SAMPLING) -> list[Outcome]:
    """One outcome per prompt, seeds 0, 1, 2..."""
    found: dict[int, Outcome] = {}
    batch = [Prompt(packed(ids), seed) for seed, ids in enumerate(prompts)]
    async for outcomes in engine.generate(batch, sampling):
        for index, outcome in outcomes:
            assert index not in found
            found[index] = outcome
    return [found[index] for index in range(len(prompts))]


async def completions(engine: Engine, prompts: list[list[int]], sampling: Sampling = SAMPLING) -> list[SampledTokens]:
    outcomes = await sample(engine, prompts, sampling)
    assert all(isinstance(outcome, SampledTokens) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, SampledTokens)]


async def test_a_response_ends_with_its_stop_token_or_at_its_length(engine: Engine) -> None:
    sampling = Sampling(temperature=1.0, max_tokens=6, stop_token_ids=tuple(range(0, 96, 4)))
    found = await completions(engine, [prompt_ids(number) for number in range(32)], sampling)
    assert {completion.finish_reason for completion in found} == {"stop", "length"}
    for completion in found:
        response = unpack_int32(completion.response_ids)
        stops = [token in sampling.stop_token_ids for token in response]
        assert not any(stops[:-1])
        assert (completion.finish_reason == "stop") == stops[-1]
        assert len(response) == 6 or stops[-1]
        assert len(unpack_float32(completion.logprobs)) == len(unpack_int32(completion.versions)) == len(response)


async def test_only_the_named_tokens_stop(engine: Engine) -> None:
    """Not the end-of-text token of the base's own settings either."""
    sampling = Sampling(temperature=1.0, max_tokens=8, stop_token_ids=())
    found = await completions(engine, [prompt_ids(number % 4) for number in range(128)], sampling)
    assert {len(unpack_int32(completion.response_ids)) for completion in found} == {8}
    assert any(1 in unpack_int32(completion.response_ids)[:-1] for completion in found)


async def test_the_seed_decides_and_the_company_does_not(engine: Engine) -> None:
    prompt = prompt_ids(1)
    (alone,) = await completions(engine, [prompt])
    first, *others = await completions(engine, [prompt] * 16)
    assert first.response_ids == alone.response_ids
    assert len({completion.response_ids for completion in others}) > 8


async def test_a_response_ends_where_the_model_ends(engine: Engine) -> None:
    sampling = Sampling(temperature=1.0, max_tokens=50, stop_token_ids=())
    (completion,) = await completions(engine, [prompt_ids(1, MAX_MODEL_LEN - 3)], sampling)
    assert len(unpack_int32(completion.response_ids)) == 3
    assert completion.finish_reason == "length"


def guided_prompts() -> list[tuple[list[int], list[list[int]]]]:
    """Prompts and the replies that each may get; of every fourth any reply will do."""
    replies = [[5, 9, 1], [5, 9, 7, 1], [5, 8, 1], [40, 41, 42, 43, 1], [6, 1], [1]]
    return [
        (prompt_ids(number, 4 + number % 9), replies[: 1 + number % 6] if number % 4 else []) for number in range(48)
    ]


@real_engines
@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
async def test_a_response_with_choices_is_one_of_them_with_renormalised_logprobs(
    engine: Engine, policies: Policies, temperature: float
) -> None:
    prompts = guided_prompts()
    sampling = Sampling(temperature, max_tokens=6, stop_token_ids=(1,))
    found: dict[int, Outcome] = {}
    batch = [Prompt(packed(ids), seed, tuple(map(packed, replies))) for seed, (ids, replies) in enumerate(prompts)]
    async for outcomes in engine.generate(batch, sampling):
        found |= dict(outcomes)
    said: set[tuple[int, ...]] = set()
    for index, (ids, replies) in enumerate(prompts):
        outcome = found[index]
        assert isinstance(outcome, SampledTokens)
        response = unpack_int32(outcome.response_ids)
        if replies:
            assert response in replies
            assert outcome.finish_reason == "stop"
            said.add(tuple(response))
        wanted = policies.logprobs(0, ids, response, temperature or 1.0, replies)
        assert unpack_float32(outcome.logprobs) == pytest.approx(wanted, abs=1e-4 if engine.name == "vllm" else 1e-5)
    assert len(said) == 6 or temperature == 0


@real_engines
@pytest.mark.parametrize(
    "limits", [{"top_k": 8}, {"top_k": 8, "top_p": 0.6}, {"top_k": 6, "min_p": 0.2}], ids=["k", "k and p", "k and min"]
)
async def test_truncated_sampling_says_what_could_be_sampled_and_the_trainer_agrees(
    engine: Engine, policies: Policies, limits: dict[str, Any]
) -> None:
    prompts = [prompt_ids(number, 4 + number % 9) for number in range(32)]
    sampling = Sampling(0.8, max_tokens=6, stop_token_ids=(1,), **limits)
    found = await completions(engine, prompts, sampling)
    free = await completions(engine, prompts, Sampling(0.8, max_tokens=6, stop_token_ids=(1,)))
    assert not any(one.kept for one in free)
    scorer, sizes = policies.scorer(0, 0.8), set[int]()
    turns = [
        lone_turn(ids, unpack_int32(one.response_ids))._replace(allowed=one.kept)
        for ids, one in zip(prompts, found, strict=True)
    ]
    for turn, one in zip(turns, found, strict=True):
        everything = scorer.policy.next_logits(torch.tensor([turn.prompt]))[0] / 0.8
        kept = unpack_allowed(one.kept, len(turn.response))
        assert all(ids == sorted(set(ids)) for ids in kept)
        assert likeliest(everything, sampling, slack=-1e-3) <= set(kept[0]) <= likeliest(everything, sampling, 1e-3)
        sizes |= set(map(len, kept))
    assert max(sizes) <= sampling.top_k
    assert len(sizes) == 1 or set(limits) != {"top_k"}
    wanted, _ = scorer.constants(TokenRows(turns))
    got = [logprob for one in found for logprob in unpack_float32(one.logprobs)]
    assert got == pytest.approx(wanted.tolist(), abs=1e-4 if engine.name == "vllm" else 1e-5)


def likeliest(logits: torch.Tensor, sampling: Sampling, slack: float) -> set[int]:
    """The ids that may be sampled; with a slack above 0 also those that hardly may not, below 0 only the clear ones."""
    order = logits.argsort(descending=True)[: sampling.top_k].tolist()
    chances = dict(zip(order, logits[order].softmax(0).tolist(), strict=True))
    order = [one for one in order if chances[one] >= sampling.min_p * (1 - slack) * chances[order[0]]]
    total, before, found = sum(chances[one] for one in order), 0.0, set[int]()
    for one in order:
        if before < (sampling.top_p + slack) * total or not found:
            found.add(one)
        before += chances[one]
    return found


@real_engines
async def test_a_stop_word_ends_a_response_and_stays_in_it(engine: Engine) -> None:
    """It is looked for in the text: one word may end in the middle of a token, or take several of them."""
    prompts = [prompt_ids(number) for number in range(24)]
    free = await completions(engine, prompts, Sampling(1.0, max_tokens=12, stop_token_ids=()))
    found = await completions(engine, prompts, Sampling(1.0, 12, (), stop_words=("w1", "7 w", "nowhere")))
    ended = 0
    for whole, one in zip(free, found, strict=True):
        words = [WORDS[token] for token in unpack_int32(whole.response_ids)]
        ends = [at for at in range(1, 13) if any(text in " ".join(words[:at]) for text in ("w1", "7 w"))]
        length = min(ends, default=12)
        assert unpack_int32(one.response_ids) == unpack_int32(whole.response_ids)[:length]
        assert len(unpack_float32(one.logprobs)) == len(unpack_int32(one.versions)) == length
        assert one.finish_reason == ("stop" if ends else "length")
        ended += bool(ends) and length < 12
    assert ended > 3


@real_engines
async def test_choices_outside_the_vocabulary_are_refused_and_their_company_is_not(engine: Engine) -> None:
    batch = [Prompt(packed(prompt_ids(1)), 0, (packed([5, 96]),)), Prompt(packed(prompt_ids(1)), 0, (packed([5, 1]),))]
    found: dict[int, Outcome] = {}
    async for outcomes in engine.generate(batch, SAMPLING):
        found |= dict(outcomes)
    assert isinstance(found[0], Refusal)
    assert "outside the vocabulary of 96" in found[0].reason
    assert isinstance(found[1], SampledTokens)
    assert unpack_int32(found[1].response_ids) == [5, 1]


@pytest.mark.parametrize("name", REAL)
async def test_a_deterministic_engine_gives_a_prompt_the_same_bits_in_any_company(
    name: str, makers: dict[str, Callable[[], Engine]], policies: Policies
) -> None:
    manifest = policies.version(0, engine=name).model_copy(update={"deterministic": True})
    prompts = [Prompt(packed(prompt_ids(number, 3 + number % 20)), number) for number in range(24)]
    companies = [prompts, prompts[::-1], *([one] for one in prompts[:6]), prompts[6:12] * 2]
    engine = makers[name]()
    try:
        await engine.start(manifest)
        found: dict[Prompt, set[SampledTokens]] = {prompt: set() for prompt in prompts}
        for company in companies:
            async for outcomes in engine.generate(company, SAMPLING):
                for index, outcome in outcomes:
                    assert isinstance(outcome, SampledTokens)
                    found[company[index]].add(outcome)
    finally:
        await engine.stop()
    assert {len(kinds) for kinds in found.values()} == {1}


@pytest.mark.parametrize(
    "ids", [[], prompt_ids(1, MAX_MODEL_LEN), [3, 96]], ids=["empty", "too long", "outside the vocabulary"]
)
async def test_a_prompt_that_does_not_fit_is_refused_and_its_company_is_not(engine: Engine, ids: list[int]) -> None:
    refused, sampled = await sample(engine, [ids, prompt_ids(1)])
    assert isinstance(refused, Refusal)
    assert refused.reason
    assert isinstance(sampled, SampledTokens)


async def test_a_version_that_is_not_what_its_manifest_says_changes_nothing(engine: Engine, policies: Policies) -> None:
    if isinstance(engine, FakeEngine):
        engine.reject = {90}
    before = await completions(engine, [prompt_ids(1)])
    manifest = policies.version(90, engine=engine.name)
    damaged = manifest.model_copy(update={"files": {"model.safetensors": "0" * 64}})
    with pytest.raises(UpdateRejected):
        await engine.update(damaged)
    assert await completions(engine, [prompt_ids(1)]) == before
    assert await engine.healthy()


async def test_every_token_names_the_version_that_sampled_it(engine: Engine, policies: Policies) -> None:
    for number in (1, 2):
        assert await engine.update(policies.version(number, engine=engine.name)) >= 0
        found = await completions(engine, [prompt_ids(1)] * 3)
        assert {version for completion in found for version in unpack_int32(completion.versions)} == {number}


@real_engines
async def test_after_every_update_logprobs_are_those_of_transformers(engine: Engine, policies: Policies) -> None:
    for number in (1, 2, 3, 0):
        await engine.update(policies.version(number, engine=engine.name))
        prompts = [prompt_ids(seed, 5 + seed) for seed in range(6)]
        for prompt, completion in zip(prompts, await completions(engine, prompts), strict=True):
            assert set(unpack_int32(completion.versions)) == {number}
            assert_logprobs_agree(policies, prompt, completion)


@real_engines
async def test_the_probe_tells_a_version_from_every_other(engine: Engine, policies: Policies) -> None:
    await engine.update(policies.version(1, engine=engine.name))
    assert await wrong_weights(engine, policies.version(1, engine=engine.name)) is None
    for other in (0, 2):
        sentence = await wrong_weights(engine, policies.version(other, engine=engine.name))
        assert sentence is not None
        assert f"does not serve version {other}'s weights" in sentence


@real_engines
@pytest.mark.parametrize("temperature", [0.0, 0.6])
async def test_logprobs_are_of_the_distribution_that_was_sampled(
    engine: Engine, policies: Policies, temperature: float
) -> None:
    sampling = Sampling(temperature=temperature, max_tokens=6, stop_token_ids=())
    (completion,) = await completions(engine, [prompt_ids(2)], sampling)
    assert_logprobs_agree(policies, prompt_ids(2), completion, temperature or 1.0)


@real_engines
async def test_updates_while_prompts_are_in_flight_keep_logprobs_and_versions_true(
    engine: Engine, policies: Policies
) -> None:
    """In flight a response may get tokens of several versions; each must be what its own version would say."""
    manifests = [policies.version(number, engine=engine.name) for number in (1, 2, 3)]
    prompts = [prompt_ids(seed, 20) for seed in range(24)]
    mixed = False
    while not mixed:
        found = await sampled_under_updates(engine, prompts, manifests)
        for prompt, completion in list(zip(prompts, found, strict=True))[:8]:
            assert_logprobs_agree(policies, prompt, completion)
        mixed = any(len(set(unpack_int32(completion.versions))) > 1 for completion in found)
        mixed |= engine.name == "transformers"  # which lets a batch end before it updates


async def sampled_under_updates(
    engine: Engine, prompts: list[list[int]], manifests: list[PolicyManifest]
) -> list[SampledTokens]:
    """Long responses, while the engine is led through the versions again and again."""
    sampling = Sampling(temperature=1.0, max_tokens=100, stop_token_ids=())
    flight = asyncio.create_task(completions(engine, prompts, sampling))
    for manifest in itertools.cycle(manifests):
        if flight.done():
            break
        await engine.update(manifest)
    return await flight


@real_engines
async def test_a_prefix_seen_under_old_weights_is_computed_anew(engine: Engine, policies: Policies) -> None:
    prompt = prompt_ids(3, 100)
    await completions(engine, [prompt] * 4)
    await engine.update(policies.version(4, engine=engine.name))
    (completion,) = await completions(engine, [prompt])
    assert_logprobs_agree(policies, prompt, completion)


@pytest.mark.parametrize("engine", [pytest.param("vllm", marks=pytest.mark.vllm)], indirect=True)
async def test_a_stopped_server_leaves_no_process(engine: Engine) -> None:
    """Last: it ends the module's server."""
    assert isinstance(engine, VllmEngine)
    group = engine.pid
    assert group is not None
    await engine.stop()
    assert not await engine.healthy()
    await until_group_is_gone(group)
