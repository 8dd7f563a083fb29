"""The household: its rules, its views, its words."""

import random

import pytest
from household_expert import solution
from pydantic import ValidationError

from services.env.environments.alfworld.engine import HELP, Household
from services.env.environments.alfworld.environment import Alfworld, AlfworldKwargs
from services.env.environments.alfworld.game import TASK_TYPES, Game, Receptacle, Thing, Wording

FITS = {
    "countertop": frozenset({"apple", "fork", "knife"}),
    "fridge": frozenset({"apple"}),
    "drawer": frozenset({"fork", "knife"}),
}
FOOD = frozenset({"pickupable", "coolable", "heatable", "sliceable"})


def household(*, together: bool = False, wording: Wording | None = None, task_type: str = TASK_TYPES[0]) -> Household:
    """A countertop with an apple and a knife, a fridge, a drawer with a fork; fridge and drawer maybe at one place."""
    corner = "corner" if together else ""
    receptacles = {
        "countertop 1": Receptacle("countertop", location="countertop 1"),
        "drawer 1": Receptacle("drawer", location=corner or "drawer 1", openable=True),
        "fridge 1": Receptacle("fridge", location=corner or "fridge 1", openable=True),
    }
    things = {
        "apple 1": Thing("apple", ("countertop 1",), "countertop 1", FOOD),
        "fork 1": Thing("fork", ("drawer 1",), corner or "drawer 1", frozenset({"pickupable"})),
        "knife 1": Thing("knife", ("countertop 1",), "countertop 1", frozenset({"pickupable"})),
    }
    task = "put a apple in fridge"
    return Household(Game(task_type, task, "apple", "fridge", receptacles, things, FITS, wording=wording or Wording()))


def tell(house: Household, *commands: str) -> list[str]:
    return [(house.commands() | house.looking())[command]() for command in commands]


def started(seed: int, split: str = "train", **kwargs: object) -> Alfworld:
    house = Alfworld(AlfworldKwargs.model_validate(kwargs))
    house.reset(seed, split)
    return house


def test_a_transcript_reads_as_in_alfworld():
    house = household()
    seen = "a countertop 1, a drawer 1, and a fridge 1"
    assert house.intro() == f"You are in the middle of a room. Looking quickly around you, you see {seen}."
    told = tell(
        house,
        *("look", "go to countertop 1", "take apple 1 from countertop 1", "inventory", "examine apple 1"),
        *("go to fridge 1", "open fridge 1", "move apple 1 to fridge 1", "look"),
    )
    assert told == [
        "You are in the middle of a room. Looking quickly around you, you see nothing.",
        "You arrive at countertop 1. On the countertop 1, you see a apple 1, and a knife 1.",
        "You pick up the apple 1 from the countertop 1.",
        "You are carrying: a apple 1.",
        "There's nothing special about apple 1.",
        "You arrive at fridge 1. The fridge 1 is closed.",
        "You open the fridge 1. The fridge 1 is open. In it, you see nothing.",
        "You move the apple 1 to the fridge 1.",
        "You are facing the fridge 1. Next to it, you see nothing.",
    ]
    assert house.solved()


def test_what_is_shut_hides_what_is_in_it():
    house = household()
    tell(house, "go to drawer 1")
    assert "take fork 1 from drawer 1" not in house.commands()
    tell(house, "open drawer 1")
    assert "take fork 1 from drawer 1" in house.commands()
    tell(house, "close drawer 1")
    assert "take fork 1 from drawer 1" not in house.commands()


def test_things_lie_only_where_they_belong_and_hands_hold_one():
    house = household()
    tell(house, "go to countertop 1", "take apple 1 from countertop 1", "go to drawer 1", "open drawer 1")
    assert set(house.commands()) == {"go to countertop 1", "go to fridge 1", "close drawer 1"}


def test_heating_undoes_cooling_and_marks_are_told():
    house = household()
    tell(house, "go to countertop 1", "take apple 1 from countertop 1", "go to fridge 1", "cool apple 1 with fridge 1")
    assert tell(house, "examine apple 1") == ["This is a cold apple 1."]
    house._change("heat", "apple 1", "microwave 1")
    assert tell(house, "examine apple 1") == ["This is a hot apple 1."]
    house._slice("apple 1", "knife 1")
    assert tell(house, "examine apple 1") == ["This is a hot sliced apple 1."]


def test_a_knife_in_the_hand_slices_what_lies_here():
    house = household()
    tell(house, "go to countertop 1", "take knife 1 from countertop 1")
    assert tell(house, "slice apple 1 with knife 1") == ["You sliced the apple 1 with the knife 1."]
    tell(house, "go to drawer 1")
    assert "slice apple 1 with knife 1" not in house.commands()


def test_receptacles_at_one_place_are_used_without_going():
    house = household(together=True)
    tell(house, "go to fridge 1")
    assert {"open fridge 1", "open drawer 1"} <= set(house.commands())
    assert "go to drawer 1" not in house.commands()
    assert tell(house, "look") == ["You are facing the drawer 1, and fridge 1. Next to it, you see nothing."]


def test_older_wording_is_spoken_where_the_game_has_it():
    wording = Wording(put="put {o} in/on {r}", put_said="You put the {o} in/on the {r}.", helps=False)
    house = household(wording=wording)
    tell(house, "go to countertop 1", "take apple 1 from countertop 1")
    assert tell(house, "put apple 1 in/on countertop 1") == ["You put the apple 1 in/on the countertop 1."]
    assert "help" not in house.looking()
    assert tell(household(), "help") == [HELP]


@pytest.mark.parametrize("task_type", TASK_TYPES)
@pytest.mark.parametrize("split", ["train", "valid_seen", "valid_unseen"])
@pytest.mark.parametrize("room", [{"receptacles": [3, 5]}, {"receptacles": "all", "objects": "all"}])
def test_an_expert_solves_every_task_with_one_reward_at_its_end(task_type, split, room):
    for seed in range(12):
        house = started(seed, split, task_types=[task_type], **room)
        assert not house._house.solved()
        outcomes = [house.step(command) for command in solution(house._house)]
        assert all(outcome.action_valid for outcome in outcomes)
        assert [outcome.won for outcome in outcomes] == [False] * (len(outcomes) - 1) + [True]
        assert sum(outcome.reward for outcome in outcomes) == 1.0
        assert len(outcomes) <= 20


def test_anchors_are_the_text_as_published_and_state_keys_are_exact():
    house = started(0)
    refused = [house.step("dance")]
    before = house.state()
    house.step(refused[0].observation.admissible_actions[0])
    refused.append(house.step("dance"))
    assert [outcome.action_valid for outcome in refused] == [False, False]
    assert [outcome.observation.anchor or outcome.observation.text for outcome in refused] == ["Nothing happens."] * 2
    assert house.state() != before


def test_two_ways_to_one_state_have_one_state_key():
    there = [receptacle for receptacle in started(0)._house.game.receptacles]
    one, other = started(0), started(0)
    one.step(f"go to {there[0]}")
    for name in (there[1], there[0]):
        other.step(f"go to {name}")
    assert one.state() == other.state()


def test_an_action_that_means_nothing_leaves_the_state_as_it_was():
    house = started(0)
    before = house.state()
    for action in ("", "go to moon 1", "take", "look", "Go to drawer 1"):
        assert not house.step(action).action_valid
        assert house.state() == before


def test_all_commands_include_looking_about_and_core_ones_do_not():
    assert "look" not in started(0)._commands
    assert {"look", "inventory", "help"} <= set(started(0, commands="all")._commands)


def test_the_state_view_says_what_is_around_held_and_checked():
    house = started(1, view="state", task_types=["pick_and_place_simple"])
    names = list(house._house.game.receptacles)
    start = house.reset(1, "train").text
    assert start == f"at middle . see {' , '.join(names)} . hold nothing . checked nothing ."
    texts = [house.step(command).observation.text for command in solution(house._house)]
    assert any(f"hold {house._house.game.target} 1 ." in text for text in texts)
    assert texts[-1].startswith("at ")


def test_every_word_of_every_text_and_action_is_in_the_vocabulary():
    words, rng = set(Alfworld.vocabulary()), random.Random(0)
    for seed in range(60):
        house = started(
            seed,
            rng.choice(["train", "valid_seen", "valid_unseen"]),
            task_types=TASK_TYPES,
            receptacles=rng.choice(["all", [4, 8]]),
            objects=rng.choice(["all", 6]),
            commands="all",
            view=rng.choice(["state", "feedback"]),
        )
        for _ in range(25):
            outcome = house.step(rng.choice([*sorted(house._commands), "dance"]))
            seen = outcome.observation
            assert words.issuperset(f"{seen.task} {seen.text} {' '.join(seen.admissible_actions)}".split())


def test_the_examples_that_are_checked_cover_every_task_type_and_command_in_small_and_full_rooms():
    verbs, types, sizes, rng = set(), set(), set(), random.Random(0)
    for example in Alfworld.examples:
        for seed in range(12):
            house = started(seed, **example)
            types.add(house._house.game.task_type)
            sizes.add(len(house._house.game.receptacles))
            for command in solution(house._house):
                verbs |= {one.split()[0] for one in house._commands}
                house.step(command)
            for _ in range(10):
                house.step(rng.choice(sorted(house._commands)))
                verbs |= {one.split()[0] for one in house._commands}
    assert types == set(TASK_TYPES)
    doing = {"go", "take", "move", "open", "close", "use", "clean", "heat", "cool", "slice"}
    assert verbs == doing | {"examine", "inventory", "look", "help"}
    assert min(sizes) == 3
    assert max(sizes) > 20


@pytest.mark.parametrize(
    ("kwargs", "named"),
    [
        ({"receptacles": [1]}, "receptacles"),
        ({"receptacles": []}, "receptacles"),
        ({"receptacles": "some"}, "receptacles"),
        ({"objects": -1}, "objects"),
        ({"task_types": ["x"]}, "task_types"),
        ({"task_types": []}, "task_types"),
        ({"receptacles": [2], "task_types": ["pick_heat_then_place_in_recep"]}, "receptacles: pick_heat"),
        ({"data": "games"}, "ENV_SERVICE_DATA_ROOT"),
    ],
)
def test_kwargs_that_make_no_household_are_refused(kwargs, named):
    with pytest.raises(ValidationError, match=named):
        AlfworldKwargs.model_validate(kwargs)
