"""Draws a task and furnishes a room for it: solvable, and not solved at the start.

Splits are those of the published benchmark: `train` and `valid_seen` are set in its 96 training rooms, `valid_unseen`
in the 24 others. The tasks differ too: both valid splits ask for pairs of object and goal that never occur in training,
so that they differ from training tasks even in rooms of three receptacles, which all look alike.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from services.env.environments.alfworld.assignment import PHRASES, Assignment, assignments, rooms_for
from services.env.environments.alfworld.floor_plans import LAMP_STANDS, LAMPS, PLANS
from services.env.environments.alfworld.game import Game, Receptacle, Thing, class_of, numbered

MAX_INSTANCES = 3
"""Most instances of one class of object in a full room, as in ALFRED's own scenes."""


@dataclass(frozen=True)
class Layout:
    """How much of a floor plan a room keeps."""

    receptacles: Sequence[int] | Literal["all"]
    """Numbers of which one is drawn; "all": the whole floor plan."""
    objects: int | Literal["all"]
    """Classes of objects beside the target, one of each; "all": every class of the room, 1 to 3 of each."""


def draw_game(rng: random.Random, task_types: Sequence[str], split: str, layout: Layout) -> Game:
    """A task of one of `task_types`, in a room of `split`. Every type can be drawn in every split."""
    task_type = rng.choice(task_types)
    room = rng.choice(rooms_for(task_type, split))
    assigned = rng.choice(assignments(task_type, split, room.number))
    receptacles = numbered(_receptacles(rng, assigned, layout))
    return Game(
        task_type=task_type,
        task=rng.choice(PHRASES[task_type]).format(target=assigned.target, goal=assigned.goal),
        target=assigned.target,
        goal=assigned.goal,
        receptacles={
            name: Receptacle(class_of(name), location=name, openable=class_of(name) in PLANS.openable)
            for name in receptacles
        },
        things=_things(_placements(rng, assigned, layout, receptacles)),
        fits=PLANS.fits,
    )


def _receptacles(rng: random.Random, assigned: Assignment, layout: Layout) -> list[str]:
    """Classes of the receptacles that are kept; those without which the task cannot be done are among them."""
    left = [kind for kind, count in assigned.room.receptacles.items() for _ in range(count)]
    if layout.receptacles == "all":
        return left
    needed = {rng.choice(assigned.starts): None}
    if assigned.goal in LAMPS:
        needed[rng.choice(sorted(LAMP_STANDS & set(assigned.room.receptacles)))] = None
    else:
        needed |= {kind: None for kind in (assigned.goal, assigned.appliance) if kind is not None}
    for kind in needed:
        left.remove(kind)
    others = rng.choice(layout.receptacles) - len(needed)
    return [*needed, *rng.sample(left, min(max(others, 0), len(left)))]


def _placements(
    rng: random.Random, assigned: Assignment, layout: Layout, receptacles: list[str]
) -> Iterable[tuple[str, str]]:
    """Class of each object, and the receptacle it is put in."""
    room = assigned.room
    everything = layout.objects == "all"
    others = [name for name in room.objects if name != assigned.target]
    for name in others if layout.objects == "all" else rng.sample(others, min(layout.objects, len(others))):
        spots = [place for place in receptacles if name in PLANS.fits.get(class_of(place), ())]
        for _ in range(rng.randint(1, MAX_INSTANCES) if everything and spots else bool(spots)):
            yield name, rng.choice(spots)
    starts = [place for place in receptacles if class_of(place) in assigned.starts]
    for _ in range(assigned.count):
        yield assigned.target, rng.choice(starts)
    stands = [place for place in receptacles if class_of(place) in LAMP_STANDS]
    for lamp in room.lamps:
        if stands and (everything or lamp == assigned.goal):
            yield lamp, rng.choice(stands)


def _things(placements: Iterable[tuple[str, str]]) -> dict[str, Thing]:
    """Things with names, in the order in which they are told."""
    places: dict[str, list[str]] = {}
    for kind, place in placements:
        places.setdefault(kind, []).append(place)
    names = numbered([kind for kind, found in places.items() for _ in found])
    return {name: _thing(class_of(name), places[class_of(name)].pop()) for name in names}


def _thing(kind: str, place: str) -> Thing:
    able = {"toggleable"} if kind in LAMPS else {"pickupable"}
    able |= {able for able, kinds in PLANS.able.items() if kind in kinds}
    if kind in PLANS.holds_things:
        able.add("isreceptacleobject")
    return Thing(kind, (place,), location=place, able=frozenset(able))
