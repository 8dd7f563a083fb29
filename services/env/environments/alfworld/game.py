"""Draws a room and a task in it: solvable, and not solved at the start."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

from services.env.environments.alfworld.rooms import (
    BELONGS,
    CHANGES,
    LAMP,
    LAMP_STANDS_ON,
    LIT,
    OBJECT_NAMES,
    OBJECTS,
    RECEPTACLES,
    ROOMS,
)

TASK_TYPES = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
CHANGE_OF = {
    "pick_clean_then_place_in_recep": "clean",
    "pick_heat_then_place_in_recep": "heat",
    "pick_cool_then_place_in_recep": "cool",
}
ADJECTIVE = {"clean": "clean", "heat": "hot", "cool": "cool"}
MAX_DRAWS = 10_000
"""Rooms drawn before giving up; a few hundred suffice for the rarest task."""


@dataclass(frozen=True)
class Game:
    """One task in one room. Names are class and number: "apple 1"."""

    task_type: str
    target: str
    """Class of object that the task is about."""
    goal: str
    """Class of receptacle to put it in, or the lamp to look at it with."""
    receptacles: tuple[str, ...]
    placed: dict[str, str]
    """Object -> receptacle at the start."""

    @property
    def task(self) -> str:
        """What to do, in words."""
        if self.task_type == "look_at_obj_in_light":
            return f"look at {self.target} under the {self.goal}"
        if self.task_type == "pick_two_obj_and_place":
            return f"put two {self.target} in {self.goal}"
        change = CHANGE_OF.get(self.task_type)
        return f"put a {ADJECTIVE[change] + ' ' if change else ''}{self.target} in {self.goal}"


def class_of(name: str) -> str:
    """ "apple 1" -> "apple"."""
    return name.rpartition(" ")[0]


def held_out(target: str, goal: str) -> bool:
    """Whether tasks with this pair are for the test split only: about one pair in six."""
    goals = (*RECEPTACLES, LAMP)
    return (OBJECT_NAMES.index(target) + goals.index(goal)) % 6 == 0


def draw_game(rng: random.Random, task_types: tuple[str, ...], size: int, others: int, *, test: bool) -> Game:
    """A game in a room of `size` receptacles with up to `others` classes of objects beside the target.

    RuntimeError: no such room was found.
    """
    for _ in range(MAX_DRAWS):
        task_type, room = rng.choice(task_types), rng.choice(sorted(ROOMS))
        target = rng.choice(OBJECTS[room])
        goals = [LAMP] if task_type == "look_at_obj_in_light" else sorted(BELONGS[target] & set(ROOMS[room]))
        if not goals:
            continue
        goal = rng.choice(goals)
        if held_out(target, goal) != test:
            continue
        needed = _needed(rng, task_type, room, target, goal)
        if needed is None or len(needed) > size:
            continue
        game = _furnish(rng, Game(task_type, target, goal, (), {}), room, needed, size, others)
        if game is not None:
            return game
    raise RuntimeError(f"no room of {size} receptacles for {', '.join(task_types)} in {MAX_DRAWS} draws")


def _needed(rng: random.Random, task_type: str, room: str, target: str, goal: str) -> list[str] | None:
    """Classes of receptacles without which the task cannot be done; None where the room does not allow it."""
    if task_type == "look_at_obj_in_light":
        stands = sorted(LAMP_STANDS_ON & set(ROOMS[room]))
        return [rng.choice(stands)] if stands and target in LIT else None
    starts = sorted((BELONGS[target] & set(ROOMS[room])) - {goal})
    if change := CHANGE_OF.get(task_type):
        place, changeable = CHANGES[change]
        if place not in ROOMS[room] or place == goal or target not in changeable:
            return None
        starts = [start for start in starts if start != place]
        return [goal, place, rng.choice(starts)] if starts else None
    return [goal, rng.choice(starts)] if starts else None


def _furnish(rng: random.Random, game: Game, room: str, needed: list[str], size: int, others: int) -> Game | None:
    """The room around the needed receptacles; None where it turns out unfit."""
    left = [name for name, count in ROOMS[room].items() for _ in range(count)]
    for name in needed:
        left.remove(name)
    classes = [*needed, *rng.sample(left, min(size - len(needed), len(left)))]
    if len(classes) != size:
        return None
    rng.shuffle(classes)
    receptacles = _numbered(classes)
    names = [game.target] * (2 if game.task_type == "pick_two_obj_and_place" else 1)
    names += rng.sample([name for name in OBJECTS[room] if name != game.target], others)
    placed: dict[str, str] = {}
    for name in _numbered(names):
        is_target = class_of(name) == game.target
        spots = [r for r in receptacles if class_of(r) in BELONGS[class_of(name)]]
        spots = [r for r in spots if not (is_target and class_of(r) == game.goal)]
        if spots:
            placed[name] = rng.choice(spots)
        elif is_target:
            return None
    if game.goal == LAMP:
        placed[f"{LAMP} 1"] = rng.choice([r for r in receptacles if class_of(r) in LAMP_STANDS_ON])
    return Game(game.task_type, game.target, game.goal, tuple(receptacles), placed)


def _numbered(classes: Iterable[str]) -> list[str]:
    """Each with its number within its class: [a, b, a] -> ["a 1", "b 1", "a 2"]."""
    seen: dict[str, int] = {}
    names = []
    for name in classes:
        seen[name] = seen.get(name, 0) + 1
        names.append(f"{name} {seen[name]}")
    return names
