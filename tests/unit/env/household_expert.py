"""An expert that sees everything: what it does solves any household task."""

from collections.abc import Iterator

from services.env.environments.alfworld.engine import CHANGES, Household
from services.env.environments.alfworld.game import CHANGE_OF


def solution(house: Household) -> Iterator[str]:
    """Commands, one after the other; each is to be carried out before the next is asked for."""
    game = house.game
    change = CHANGE_OF.get(game.task_type)
    targets = [name for name, thing in game.things.items() if thing.kind == game.target and thing.place]
    for name in targets[: 2 if game.task_type == "pick_two_obj_and_place" else 1]:
        yield from approach(house, house.place[name])
        yield f"take {name} from {house.place[name]}"
        if change:
            appliance = first(house, CHANGES[change][1])
            yield from travel(house, appliance)
            yield f"{change} {name} with {appliance}"
        if game.task_type == "look_at_obj_in_light":
            lamp = next(name for name, thing in game.things.items() if thing.kind == game.goal)
            yield from travel(house, house.place[lamp])
            yield f"use {lamp}"
        else:
            goal = first(house, game.goal)
            yield from approach(house, goal)
            yield game.wording.put.format(o=name, r=goal)


def first(house: Household, kind: str) -> str:
    return next(name for name, receptacle in house.game.receptacles.items() if receptacle.kind == kind)


def travel(house: Household, receptacle: str) -> Iterator[str]:
    if house.location != house.game.receptacles[receptacle].location:
        yield f"go to {receptacle}"


def approach(house: Household, receptacle: str) -> Iterator[str]:
    yield from travel(house, receptacle)
    if house.is_shut(receptacle):
        yield f"open {receptacle}"
