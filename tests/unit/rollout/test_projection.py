"""From replies to actions."""

import pytest

from services.rollout.projection import MAX_ACTION_CHARACTERS, PlainProjection, TaggedProjection


def test_a_plain_reply_is_the_action():
    assert PlainProjection().action(" go north ") == "go north"


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        ("<action>go north</action>", "go north"),
        ("<think>maybe <action>look</action></think><action> take apple\n</action>", "take apple"),
        ("<action>a</action> then <action>b", "a"),
        ("go north", "go north"),
        ("<action>go north", "<action>go north"),
        ("", ""),
    ],
)
def test_a_tagged_reply_says_what_its_last_pair_of_tags_encloses(reply, action):
    assert TaggedProjection().action(reply) == action


@pytest.mark.parametrize("projection", [PlainProjection(), TaggedProjection()])
def test_the_reply_that_says_an_action_is_read_as_that_action(projection):
    assert projection.action(projection.reply("put apple")) == "put apple"


def test_an_endless_reply_is_cut_to_what_an_environment_takes():
    assert len(PlainProjection().action("x" * 100_000)) == MAX_ACTION_CHARACTERS
