"""The household: its rules, its tasks, its words."""

import random

import pytest
from pydantic import ValidationError

from services.env.environment import KwargsError
from services.env.environments.alfworld.engine import Household
from services.env.environments.alfworld.environment import Alfworld, AlfworldKwargs
from services.env.environments.alfworld.game import CHANGE_OF, TASK_TYPES, Game, class_of, held_out
from services.env.environments.alfworld.rooms import (
    BELONGS,
    CHANGES,
    LAMP,
    LAMP_STANDS_ON,
    LIT,
    OBJECTS,
    OPENABLE,
    RECEPTACLES,
    ROOMS,
)


def started(seed: int, split: str = "train", **kwargs: object) -> Alfworld:
    house = Alfworld(AlfworldKwargs.model_validate(kwargs))
    house.reset(seed, split)
    return house


def approach(house: Household, receptacle: str) -> list[str]:
    """Commands that bring the agent to a receptacle and open it."""
    opening = [f"open {receptacle}"] if house.is_shut(receptacle) else []
    return [*([f"go to {receptacle}"] if house.at != receptacle else []), *opening]


def solution(house: Household):
    """Commands of an expert that sees everything, one after the other."""
    game = house.game
    change = CHANGE_OF.get(game.task_type)
    goal = next((r for r in game.receptacles if class_of(r) == game.goal), "")
    for name in [name for name in game.placed if class_of(name) == game.target]:
        yield from approach(house, house.where[name])
        yield f"take {name} from {house.where[name]}"
        if change:
            place = next(r for r in game.receptacles if class_of(r) == CHANGES[change][0])
            if house.at != place:
                yield f"go to {place}"
            yield f"{change} {name} with {place}"
        if game.goal == LAMP:
            stand = house.where[f"{LAMP} 1"]
            yield from approach(house, stand)
            yield f"use {LAMP} 1"
            return
        yield from approach(house, goal)
        yield f"move {name} to {goal}"


def household() -> Household:
    return Household(
        Game(
            "pick_and_place_simple",
            "apple",
            "fridge",
            ("countertop 1", "fridge 1", "drawer 1"),
            {"apple 1": "countertop 1", "fork 1": "drawer 1"},
        )
    )


def tell(house: Household, *commands: str) -> list[str]:
    return [(house.commands() | house.looking())[command]() for command in commands]


def test_a_transcript_reads_as_in_alfworld():
    house = household()
    assert house.intro() == (
        "You are in the middle of a room. Looking quickly around you, "
        "you see a countertop 1, a fridge 1, and a drawer 1."
    )
    told = tell(
        house,
        "go to countertop 1",
        "take apple 1 from countertop 1",
        "inventory",
        "go to fridge 1",
        "open fridge 1",
        "move apple 1 to fridge 1",
    )
    assert told == [
        "You arrive at countertop 1. On the countertop 1, you see a apple 1.",
        "You pick up the apple 1 from the countertop 1.",
        "You are carrying: a apple 1.",
        "You arrive at fridge 1. The fridge 1 is closed.",
        "You open the fridge 1. The fridge 1 is open. In it, you see nothing.",
        "You move the apple 1 to the fridge 1.",
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


def test_heating_undoes_cooling():
    house = household()
    tell(house, "go to countertop 1", "take apple 1 from countertop 1", "go to fridge 1", "cool apple 1 with fridge 1")
    assert tell(house, "examine apple 1") == ["This is a cold apple 1."]
    house._change("heat", "apple 1", "microwave 1")
    assert tell(house, "examine apple 1") == ["This is a hot apple 1."]


@pytest.mark.parametrize("task_type", TASK_TYPES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_an_expert_solves_every_task_with_one_reward_at_its_end(task_type, split):
    for seed in range(60):
        house = started(seed, split, task_types=[task_type], receptacles=[3, 4, 5, 6])
        assert not house._house.solved()
        outcomes = [house.step(command) for command in solution(house._house)]
        assert all(outcome.action_valid for outcome in outcomes)
        assert [outcome.won for outcome in outcomes] == [False] * (len(outcomes) - 1) + [True]
        assert sum(outcome.reward for outcome in outcomes) == 1.0
        assert len(outcomes) <= 20


def test_splits_pair_objects_and_goals_apart():
    for split, expected in (("train", False), ("test", True)):
        games = [started(seed, split)._house.game for seed in range(300)]
        assert {held_out(game.target, game.goal) for game in games} == {expected}
        assert {game.task_type for game in games} == {"pick_and_place_simple", "look_at_obj_in_light"}


def test_one_seed_names_one_task():
    assert started(3)._house.game == started(3)._house.game
    assert len({(started(s)._house.game.task, started(s)._house.game.receptacles) for s in range(100)}) > 80


def test_nothing_happens_in_two_places_is_not_one_anchor():
    house = started(0)
    refused = [house.step("dance")]
    house.step(refused[0].observation.admissible_actions[0])
    refused.append(house.step("dance"))
    assert [outcome.action_valid for outcome in refused] == [False, False]
    assert refused[0].observation.text == refused[1].observation.text == "Nothing happens."
    assert refused[0].observation.anchor != refused[1].observation.anchor


def test_an_action_that_means_nothing_leaves_the_state_as_it_was():
    house = started(0)
    before = house.state()
    for action in ("", "go to moon 1", "take", "look"):
        assert not house.step(action).action_valid
        assert house.state() == before


def test_all_commands_include_looking_about_and_core_ones_do_not():
    assert "look" not in started(0)._commands()
    assert {"look", "inventory"} <= set(started(0, commands="all")._commands())


def test_the_state_view_says_what_is_around_held_and_checked():
    house = started(1, view="state")
    game = house._house.game
    seen = house._observation("")
    assert seen.text == f"at middle . see {' , '.join(game.receptacles)} . hold nothing . checked nothing ."
    assert seen.anchor == f"{game.task} . {seen.text}"


def test_every_word_of_every_text_and_action_is_in_the_vocabulary():
    words, rng = set(Alfworld.vocabulary()), random.Random(0)
    for seed in range(120):
        house = started(
            seed,
            rng.choice(["train", "test"]),
            task_types=TASK_TYPES,
            receptacles=[4, 6, 8],
            objects=6,
            commands="all",
            view=rng.choice(["state", "feedback"]),
        )
        for _ in range(20):
            seen = house._observation(house._house.intro())
            outcome = house.step(rng.choice([*seen.admissible_actions, "dance"]))
            said = f"{seen.text} {seen.anchor} {' '.join(seen.admissible_actions)} {outcome.observation.text}"
            assert words.issuperset(said.split())


def test_the_tables_agree_with_each_other():
    assert {name for room in OBJECTS.values() for name in room} == set(BELONGS)
    assert set(RECEPTACLES) >= OPENABLE | LAMP_STANDS_ON
    assert {place for places in BELONGS.values() for place in places} <= set(RECEPTACLES)
    assert set(BELONGS) >= LIT
    for verb, (place, changeable) in CHANGES.items():
        assert place in RECEPTACLES, verb
        assert changeable <= set(BELONGS)
    for room, objects in OBJECTS.items():
        assert all(BELONGS[name] & set(ROOMS[room]) for name in objects)


def test_a_room_too_small_for_its_task_is_refused_by_name():
    with pytest.raises(KwargsError, match="receptacles, task_types"):
        started(0, receptacles=[2], task_types=["pick_heat_then_place_in_recep"])


@pytest.mark.parametrize(
    "kwargs", [{"receptacles": [1]}, {"receptacles": []}, {"task_types": ["x"]}, {"task_types": []}]
)
def test_kwargs_that_make_no_household_are_refused(kwargs):
    with pytest.raises(ValidationError, match=next(iter(kwargs))):
        AlfworldKwargs.model_validate(kwargs)
