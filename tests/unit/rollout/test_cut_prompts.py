"""Prompts whose observation was cut: counted with the episode, and told to the job's user."""

from services.rollout.player import Player
from tests.unit.rollout.fakes import FakeInference
from tests.unit.rollout.stages import REPLIES, encoded_replies


class Told:
    def __init__(self):
        self.messages = []

    async def once(self, job, topic, message):
        self.messages.append((topic, message))


def watched(stage, told):
    inference = FakeInference(encoded_replies(stage.playbook, REPLIES))
    return Player(stage.playbook, stage.ledger, stage.player._environments, inference, "w1", warnings=told)


async def test_cut_prompts_are_counted_with_their_episode_and_told(stages):
    stage, told = stages(max_prompt_tokens=8), Told()
    group = stage.group(n=3)
    await stage.open(group)
    await watched(stage, told).play(group)
    episodes = await stage.episodes(group.group_id)
    assert [episode.cut_prompts for episode in episodes] == [len(episode.steps) for episode in episodes]
    assert {topic for topic, _ in told.messages} == {"cut prompts"}
    assert "max_prompt_tokens: observations are longer than 8 tokens allow" in told.messages[0][1]


async def test_prompts_that_fit_and_history_that_goes_are_not_told(stages):
    stage, told = stages(max_prompt_tokens=12, history_length=2), Told()
    group = stage.group(n=3)
    await stage.open(group)
    await watched(stage, told).play(group)
    assert [episode.cut_prompts for episode in await stage.episodes(group.group_id)] == [0, 0, 0]
    assert told.messages == []


async def test_outgrown_conversations_are_told_once(stages):
    budget = {"max_prompt_tokens": 28, "max_context_tokens": 34}
    stage, told = stages(interaction="conversation", context_overflow="end", **budget), Told()
    group = stage.group(n=3)
    await stage.open(group)
    await watched(stage, told).play(group)
    assert sum(episode.context_overflows for episode in await stage.episodes(group.group_id)) > 0
    assert {topic for topic, _ in told.messages} == {"outgrown conversations"}
    assert told.messages[0][1].startswith(
        "max_context_tokens: conversations outgrow 34 tokens, and their episodes end there."
    )
