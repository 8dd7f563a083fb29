"""An expert that sees everything: what it does solves any household task, from wherever it stands."""

from collections.abc import Iterator

from services.env.environments.alfworld.engine import CHANGES, Household
from services.env.environments.alfworld.environment import Alfworld
from services.env.environments.alfworld.game import CHANGE_OF


def homemaker(environment: Alfworld) -> str:
    """The next command that leads to success."""
    return next_command(environment._house)


def solution(house: Household) -> Iterator[str]:
    """Commands, one after the other; each is to be carried out before the next is asked for."""
    while not house.solved():
        yield next_command(house)


def next_command(house: Household) -> str:
    game, held = house.game, house.held
    change = CHANGE_OF.get(game.task_type)
    if held is None:
        name = next(name for name in game.things if _is_wanted(house, name))
        place = _place(house, name)
        return _reach(house, place) or f"take {name} from {place}"
    if game.things[held].kind != game.target:
        return _put_away(house, held)
    if change and held not in house.marks[CHANGES[change][2]]:
        appliance = _first(house, CHANGES[change][1])
        return _travel(house, appliance) or f"{change} {held} with {appliance}"
    if game.task_type == "look_at_obj_in_light":
        lamp = next(name for name, thing in game.things.items() if thing.kind == game.goal)
        return _travel(house, _place(house, lamp)) or f"use {lamp}"
    goal = _goal(house)
    return _reach(house, goal) or game.wording.put.format(o=held, r=goal)


def _is_wanted(house: Household, name: str) -> bool:
    """A target that is not where it is to be: of two, those that lie with the first count as being there."""
    thing, place = house.game.things[name], _place(house, name)
    if thing.kind != house.game.target or not place:
        return False
    change = CHANGE_OF.get(house.game.task_type)
    done = change is None or name in house.marks[CHANGES[change][2]]
    return not (done and house.game.task_type != "look_at_obj_in_light" and place == _goal(house))


def _goal(house: Household) -> str:
    """The receptacle to fill: where a target lies already, or the first of its class."""
    game = house.game
    goals = [name for name, receptacle in game.receptacles.items() if receptacle.kind == game.goal]
    begun = [place for place in goals if any(game.things[name].kind == game.target for name in house.inside(place))]
    return begun[0] if begun else goals[0]


def _place(house: Household, name: str) -> str:
    """Where a thing is; empty: nowhere."""
    return next((place for place, things in house.contents.items() if name in things), "")


def _put_away(house: Household, held: str) -> str:
    kind = house.game.things[held].kind
    place = next(n for n, one in house.game.receptacles.items() if kind in house.game.fits.get(one.kind, ()))
    return _reach(house, place) or house.game.wording.put.format(o=held, r=place)


def _first(house: Household, kind: str) -> str:
    return next(name for name, receptacle in house.game.receptacles.items() if receptacle.kind == kind)


def _travel(house: Household, receptacle: str) -> str:
    return "" if house.location == house.game.receptacles[receptacle].location else f"go to {receptacle}"


def _reach(house: Household, receptacle: str) -> str:
    return _travel(house, receptacle) or (f"open {receptacle}" if house.is_shut(receptacle) else "")
