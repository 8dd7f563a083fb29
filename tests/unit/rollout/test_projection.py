"""Replies become actions."""

import pytest

from services.rollout.reply_format import MAX_ACTION_CHARACTERS, Projected, Projection

TAGGED, PLAIN, SEARCH = Projection(["action"]), Projection(), Projection(["search", "answer"])


def test_a_plain_reply_is_the_action():
    assert PLAIN.project(" go north\n") == Projected("go north", True)
    assert PLAIN.project("<action>go</action>") == Projected("<action>go</action>", True)


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("<action>go north</action>", "go north"),
        ("<think>maybe <action>look</action></think><action> take apple\n</action>", "take apple"),
        ("it began in the prompt</think> so <action>look</action> it is", "look"),
        ("<action>a</action> or <action>b</action>", "b"),
        ("<action>a</action> then <action>b", "a"),
        ("<action>a <action>b</action>", "b"),
        ("<action>a</action><think>no, <action>b</action>", "a"),
    ],
)
def test_a_tagged_reply_says_what_its_last_pair_of_tags_after_the_thinking_encloses(reply, action):
    assert TAGGED.project(reply) == Projected(action, True)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "go north",
        "<action>go north",
        "go north</action>",
        "<action> </action>",
        "<ACTION>go north</ACTION>",
        "<think>let me <action>look</action>",
        "<action>look</action> I meant that</think>",
    ],
)
def test_a_reply_that_carries_no_action_as_it_should_is_an_invalid_one(reply):
    assert TAGGED.project(reply) == Projected("", False)


def test_tags_of_several_kinds_stay_around_the_action():
    assert SEARCH.project("<think>?</think><search> who </search>") == Projected("<search>who</search>", True)
    assert SEARCH.project("<search>who</search><answer>me</answer>") == Projected("<answer>me</answer>", True)
    assert SEARCH.project("<search>who</answer>") == Projected("", False)


@pytest.mark.parametrize("projection", [PLAIN, TAGGED])
def test_the_reply_that_says_an_action_is_read_as_that_action(projection):
    assert projection.project(projection.reply("put apple")) == Projected("put apple", True)


def test_a_tagged_action_says_itself():
    assert SEARCH.project(SEARCH.reply("<search>who</search>")).action == "<search>who</search>"


@pytest.mark.parametrize(
    ("projection", "reply"), [(PLAIN, "x" * 100_000), (TAGGED, f"<action>{'x' * 100_000}</action>")]
)
def test_an_endless_action_is_cut_to_what_an_environment_takes(projection, reply):
    assert len(projection.project(reply).action) == MAX_ACTION_CHARACTERS
