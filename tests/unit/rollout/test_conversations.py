"""A conversation is kept as tokens: sampled ones as they are, the environment's once; it begins anew where it must."""

import pytest

from services.contracts.arrays import unpack_int32
from services.contracts.messages import Episode
from tests.unit.rollout.fakes import FakeEnvironments, FakeInference, FakeLedger
from tests.unit.rollout.stages import encoded_replies


def contexts(episode: Episode) -> list[list[int]]:
    """The policy's view at each step, put together from what is stored."""
    said: list[int] = []
    seen = []
    for step in episode.steps:
        said = [*(said if step.continues else []), *unpack_int32(step.prompt_ids)]
        seen.append(said)
        said = [*said, *unpack_int32(step.response_ids)]
    return seen


def asked(stage, episode: Episode) -> list[list[int]]:
    """The prompt that the replica was asked to continue, by step."""
    asks = {ask.item.item_id: ask.item.prompt_ids for ask in stage.player._actors["policy"]._inference.asks}
    names = [f"{stage.job_id}/{episode.episode_id}:{step.step_index}:1" for step in episode.steps]
    return [unpack_int32(asks[name]) for name in names]


async def test_the_policy_is_asked_with_everything_that_was_said(stages):
    stage = stages(interaction="conversation")
    for episode in await stage.play(stage.group(n=4)):
        assert [step.continues for step in episode.steps] == [index > 0 for index in range(len(episode.steps))]
        assert asked(stage, episode) == contexts(episode)
        for index, step in enumerate(episode.steps):
            sampled = stage.sampled[f"{stage.job_id}/{episode.episode_id}:{index}:1"]
            assert (step.response_ids, step.logprobs, step.versions) == (
                sampled.response_ids,
                sampled.logprobs,
                sampled.versions,
            )
        assert episode.context_overflows == 0


async def test_a_turn_says_what_is_new_and_the_task_once(stages):
    stage = stages(interaction="conversation")
    (episode,) = await stage.play(stage.group(n=1))
    assert len(episode.steps) > 2
    words = [stage.playbook.tokens.prompt_text(step.prompt_ids) for step in episode.steps]
    assert all(word.count("reach cell") == (index == 0) for index, word in enumerate(words))
    assert all("at" in word and word.endswith("act") for word in words)


async def test_steps_stand_alone_as_before(stages):
    alone, told = stages("job_1"), stages("job_2", interaction="steps")
    first, second = [await stage.play(stage.group(n=3)) for stage in (alone, told)]
    assert [[s.prompt_ids for s in e.steps] for e in first] == [[s.prompt_ids for s in e.steps] for e in second]
    assert not any(step.continues for episode in first for step in episode.steps)


@pytest.mark.parametrize("overflow", ["restart", "end"])
async def test_a_conversation_that_outgrows_its_budget_is_cut_in_sight(stages, overflow):
    budget = {"max_prompt_tokens": 28, "max_context_tokens": 40, "history_length": 2 * (overflow == "restart")}
    stage = stages(interaction="conversation", context_overflow=overflow, **budget)
    episodes = await stage.play(stage.group(n=4))
    for episode in episodes:
        begins = [index for index, step in enumerate(episode.steps) if not step.continues]
        longest = max(
            len(seen) + len(step.response_ids) // 4 for seen, step in zip(contexts(episode), episode.steps, strict=True)
        )
        assert longest <= 40
        assert asked(stage, episode) == contexts(episode)
        if overflow == "end":
            assert begins == [0]
            assert episode.truncated or not episode.context_overflows
        else:
            assert episode.context_overflows == len(begins) - 1
    assert sum(episode.context_overflows for episode in episodes) > 0


async def test_a_restart_shows_what_a_step_alone_would_show(stages):
    budget = {"max_prompt_tokens": 28, "history_length": 1}
    stage = stages("job_1", interaction="conversation", max_context_tokens=34, **budget)
    twin = stages("job_2", **budget)
    (episode,), (alone,) = [await one.play(one.group(n=1)) for one in (stage, twin)]
    restarted = [index for index, step in enumerate(episode.steps) if index and not step.continues]
    assert restarted
    for index in restarted:
        assert episode.steps[index].prompt_ids == alone.steps[index].prompt_ids


async def test_a_repeated_attempt_says_the_same_again(stages):
    stage, ledger = stages(interaction="conversation"), FakeLedger()
    inference = FakeInference(encoded_replies(stage.playbook, ["go left", "go right"]))
    from services.rollout.player import Player

    played = []
    for _ in range(2):
        group = stage.group(n=2)
        ledger.open(group)
        await Player(stage.playbook, ledger, FakeEnvironments(), inference, "w1").play(group)
        played.append([episode.steps for _, episode in sorted(ledger.stored[group.group_id].items())])
    assert played[0] == played[1]
