"""Chance as an actor."""

from collections import Counter

import pytest

from services.contracts.messages import GenerateItem
from services.contracts.sampling import Sampling
from services.rollout.actors import RandomActor, chosen_action
from services.rollout.errors import NoAdmissibleActions
from services.rollout.ports import Ask
from services.rollout.reply_format import Projection
from tests.unit.rollout.policy_folder import word_tokens

ASK = Ask("j", "g", "g/0", GenerateItem(b"", 0, item_id="i"), 0, Sampling(1.0, 8, ()))
ACTIONS = ("go north", "go south", "go east", "take apple")


def test_first_words_are_equally_likely_and_then_the_actions_that_begin_with_them():
    counts = Counter(chosen_action(ACTIONS, seed) for seed in range(6_000))
    assert counts["take apple"] == pytest.approx(3_000, abs=200)
    for action in ACTIONS[:3]:
        assert counts[action] == pytest.approx(1_000, abs=150)


def test_the_choice_is_a_function_of_the_seed():
    assert [chosen_action(ACTIONS, seed) for seed in range(50)] == [chosen_action(ACTIONS, seed) for seed in range(50)]


async def test_a_reply_in_tags_is_what_a_chat_policy_would_say(tmp_path):
    tokens = word_tokens(tmp_path, ["<action>wait</action>"])
    sampled = await RandomActor(tokens, Projection(["action"])).respond(ASK, ("wait",))
    assert tokens.reply_text(sampled.response_ids) == "<action>wait</action>"
    assert len(sampled.response_ids) == len(sampled.logprobs) == len(sampled.versions) == 8


async def test_without_admissible_actions_chance_cannot_choose(tmp_path):
    actor = RandomActor(word_tokens(tmp_path, []), Projection(["action"]))
    with pytest.raises(NoAdmissibleActions):
        await actor.respond(ASK, ())
