"""Games as PDDL, in the vocabulary of ALFWorld's domain: written for its real engine, read from the published files."""

import re
from collections import defaultdict
from collections.abc import Iterator

from services.env.environments.alfworld.game import CHANGE_OF, Game

FACT = re.compile(r"\(([a-z]\w*)((?:\s+[\w.+-]+)+)\s*\)")
NAMED_BY_DOMAIN = ("sinkbasin", "microwave", "fridge", "knife", "butterknife")
"""Classes that the domain's actions name: they must be declared, in the room or not."""
IS = {"clean": "isClean", "hot": "isHot", "cool": "isCool", "toggled": "isToggled", "sliced": "isSliced"}
PLACED = "(inReceptacle ?{o} ?r) (objectType ?{o} {target}type) (receptacleType ?r {goal}type)"


def facts(problem: str) -> dict[str, list[list[str]]]:
    """Predicate -> its arguments, of everything that holds at the start; all in lower case, as the engine has them."""
    text = problem.lower()
    found: dict[str, list[list[str]]] = defaultdict(list)
    for name, arguments in FACT.findall(text[text.index("(:init") : text.index("(:goal")]):
        found[name].append(arguments.split())
    return found


def problem(game: Game) -> str:
    """A game as a problem of the domain `alfred`; its engine gives everything the names it has here."""
    ids = {**_ids(list(game.receptacles)), **_ids(list(game.things))}
    locations = {location: f"loc_bar_{number:03d}" for number, location in enumerate(_locations(game))}
    return "\n".join(
        [
            "(define (problem plan_trial) (:domain alfred) (:objects agent1 - agent",
            *_objects(game, ids, locations),
            ") (:init (= (total-cost) 0)",
            f"(atLocation agent1 {locations[game.start]})",
            *_receptacle_facts(game, ids, locations),
            *_thing_facts(game, ids, locations),
            f") (:goal {_goal(game)}))",
        ]
    )


def _ids(names: list[str]) -> dict[str, str]:
    """Names -> ids that the engine sorts as the names are ordered, and turns into these very names."""
    ids = {}
    for rank, name in enumerate(names):
        kind = name.rpartition(" ")[0]
        stem = kind.removesuffix("basin")
        ids[name] = f"{stem}_bar_{rank:03d}" + ("" if stem == kind else f"_bar_{kind}")
    return ids


def _locations(game: Game) -> list[str]:
    places = {receptacle.location for receptacle in game.receptacles.values()}
    return sorted(places | {thing.location for thing in game.things.values() if thing.location} | {game.start})


def _objects(game: Game, ids: dict[str, str], locations: dict[str, str]) -> Iterator[str]:
    things = {thing.kind for thing in game.things.values()} | {game.target, "knife", "butterknife"}
    receptacles = {receptacle.kind for receptacle in game.receptacles.values()} | set(NAMED_BY_DOMAIN[:3])
    (things if game.task_type == "look_at_obj_in_light" else receptacles).add(game.goal)
    yield from (f"{kind}type - otype" for kind in sorted(things))
    yield from (f"{kind}type - rtype" for kind in sorted(receptacles))
    yield from (f"{ids[name]} - object" for name in game.things)
    yield from (f"{ids[name]} - receptacle" for name in game.receptacles)
    yield from (f"{location} - location" for location in locations.values())


def _receptacle_facts(game: Game, ids: dict[str, str], locations: dict[str, str]) -> Iterator[str]:
    for name, receptacle in game.receptacles.items():
        yield f"(receptacleType {ids[name]} {receptacle.kind}type)"
        yield f"(receptacleAtLocation {ids[name]} {locations[receptacle.location]})"
        if receptacle.openable:
            yield f"(openable {ids[name]})"
        if receptacle.opened:
            yield f"(opened {ids[name]})"
    present = {thing.kind for thing in game.things.values()}
    for kind in sorted({receptacle.kind for receptacle in game.receptacles.values()}):
        yield from (
            f"(canContain {kind}type {held}type)" for held in sorted(game.fits.get(kind, ())) if held in present
        )


def _thing_facts(game: Game, ids: dict[str, str], locations: dict[str, str]) -> Iterator[str]:
    for name, thing in game.things.items():
        yield f"(objectType {ids[name]} {thing.kind}type)"
        yield from (f"(inReceptacle {ids[name]} {ids[place]})" for place in thing.places)
        if thing.location:
            yield f"(objectAtLocation {ids[name]} {locations[thing.location]})"
        if thing.inside:
            yield f"(inReceptacleObject {ids[name]} {ids[thing.inside]})"
        yield from (f"({able} {ids[name]})" for able in sorted(thing.able))
        yield from (f"({IS[mark]} {ids[name]})" for mark in sorted(thing.marks))


def _goal(game: Game) -> str:
    """The task type's goal, as in ALFWorld's gen/goal_library.py."""
    target, goal = game.target, game.goal
    if game.task_type == "look_at_obj_in_light":
        lit = f"(objectType ?ot {goal}type) (toggleable ?ot) (isToggled ?ot) (inReceptacle ?ot ?r)"
        near = "(exists (?ot - object ?r - receptacle ?a - agent ?l - location)"
        held = f"(exists (?o - object ?a - agent) (and (objectType ?o {target}type) (holds ?a ?o)))"
        return f"(and {near} (and {lit} (receptacleAtLocation ?r ?l) (atLocation ?a ?l))) {held})"
    first = PLACED.format(o="o", target=target, goal=goal)
    if game.task_type == "pick_two_obj_and_place":
        second = PLACED.format(o="p", target=target, goal=goal)
        first += f" (exists (?p - object) (and (not (= ?o ?p)) {second}))"
    elif change := CHANGE_OF.get(game.task_type):
        mark = {"clean": "isClean", "heat": "isHot", "cool": "isCool"}[change]
        first += f" ({mark} ?o)"
    return f"(and (exists (?r - receptacle) (exists (?o - object) (and {first}))))"
