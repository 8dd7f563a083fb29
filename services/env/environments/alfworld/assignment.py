"""The tasks that are possible in each room and in each split."""

from dataclasses import dataclass
from functools import cache

from services.env.environments.alfworld.engine import CHANGES
from services.env.environments.alfworld.floor_plans import LAMP_STANDS, LAMPS, LIT, PLANS, Room
from services.env.environments.alfworld.game import CHANGE_OF
from services.env.environments.splits import held_out

GOALS = tuple(sorted({*PLANS.fits, *LAMPS}))
OBJECTS = tuple(sorted({name for room in PLANS.rooms for name in room.objects}))
PHRASES = {
    "pick_and_place_simple": ("put a {target} in {goal}", "put some {target} on {goal}"),
    "look_at_obj_in_light": ("look at {target} under the {goal}", "examine the {target} with the {goal}"),
    "pick_clean_then_place_in_recep": ("put a clean {target} in {goal}", "clean some {target} and put it in {goal}"),
    "pick_heat_then_place_in_recep": ("put a hot {target} in {goal}", "heat some {target} and put it in {goal}"),
    "pick_cool_then_place_in_recep": ("put a cool {target} in {goal}", "cool some {target} and put it in {goal}"),
    "pick_two_obj_and_place": ("put two {target} in {goal}", "find two {target} and put them in {goal}"),
}
"""Task type -> how ALFWorld words it (its gen/goal_library.py)."""


@dataclass(frozen=True)
class Assignment:
    """A task in a room that has what it takes."""

    task_type: str
    room: Room
    target: str
    """Class of object."""
    goal: str
    """Class of receptacle, or of lamp."""

    @property
    def count(self) -> int:
        """How many of the target it takes."""
        return 2 if self.task_type == "pick_two_obj_and_place" else 1

    @property
    def appliance(self) -> str | None:
        """The class of receptacle with which the target is changed."""
        return CHANGES[CHANGE_OF[self.task_type]][1] if self.task_type in CHANGE_OF else None

    @property
    def starts(self) -> list[str]:
        """Classes of receptacles where the target may lie at first: not at the goal, nor where it is to be changed."""
        return [kind for kind in _holders(self.room, self.target) if kind not in (self.goal, self.appliance)]


def is_held_out(target: str, goal: str) -> bool:
    """Whether tasks with this pair are for the valid splits only: one pair in six."""
    return held_out(OBJECTS.index(target) + GOALS.index(goal))


@cache
def rooms_for(task_type: str, split: str) -> tuple[Room, ...]:
    """Rooms of the split in which tasks of this type can be set."""
    rooms = (room for room in PLANS.rooms if room.unseen == (split == "valid_unseen"))
    return tuple(room for room in rooms if assignments(task_type, split, room.number))


@cache
def assignments(task_type: str, split: str, room_number: int) -> tuple[Assignment, ...]:
    """Everything of this type that the split asks for in this room."""
    room = next(room for room in PLANS.rooms if room.number == room_number)
    if task_type == "look_at_obj_in_light":
        lit = [name for name in room.objects if name in LIT and LAMP_STANDS & set(room.receptacles)]
        found = [Assignment(task_type, room, name, lamp) for name in lit for lamp in room.lamps]
    else:
        placeable = (
            Assignment(task_type, room, name, goal)
            for name in _changeable(task_type, room)
            for goal in _holders(room, name)
        )
        found = [one for one in placeable if one.starts and one.goal != one.appliance]
    return tuple(one for one in found if is_held_out(one.target, one.goal) == (split != "train"))


def _changeable(task_type: str, room: Room) -> tuple[str, ...]:
    """Objects of the room to which the task can be done there."""
    if task_type not in CHANGE_OF:
        return room.objects
    must_be, appliance, _ = CHANGES[CHANGE_OF[task_type]]
    able = PLANS.able[must_be] if appliance in room.receptacles else frozenset()
    return tuple(name for name in room.objects if name in able)


def _holders(room: Room, name: str) -> list[str]:
    return [kind for kind in room.receptacles if name in PLANS.fits.get(kind, ())]
