"""One task in one room, drawn here or read from a file of the published data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

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
"""Task types in which the object must be changed first -> by what."""


@dataclass(frozen=True)
class Receptacle:
    """Something that stands still and holds things."""

    kind: str
    location: str
    """The place to stand on to use it; several receptacles may share a location."""
    openable: bool = False
    opened: bool = False
    """Whether it is open at the start."""
    arrival: str = ""
    """The name in the arrival's sentence; empty: the receptacle's name."""


@dataclass(frozen=True)
class Thing:
    """An object at the start."""

    kind: str
    places: tuple[str, ...] = ()
    """The receptacles it is in: at most one, but in published games what is in a microwave may count as being on the
    countertop under it too."""
    location: str = ""
    """The place to stand on beside it: usually, but in the published games not always, its receptacle's location."""
    able: frozenset[str] = frozenset()
    """pickupable, toggleable, cleanable, heatable, coolable, sliceable, isreceptacleobject."""
    marks: frozenset[str] = frozenset()
    """clean, hot, cool, toggled, sliced."""
    inside: str = ""
    """The object it is in; nothing can be done about that."""


@dataclass(frozen=True)
class Wording:
    """Differences between the published data's versions."""

    put: str = "move {o} to {r}"
    put_said: str = "You move the {o} to the {r}."
    helps: bool = True
    """Whether there is a command `help`."""


@dataclass(frozen=True)
class Game:
    """A task. Names are class and number ("apple 1"); both mappings are in the order in which things are told."""

    task_type: str
    task: str
    """The task, in words."""
    target: str
    """Class of object that the task is about."""
    goal: str
    """Class of receptacle to put it in, or of the lamp to look at it with."""
    receptacles: Mapping[str, Receptacle]
    things: Mapping[str, Thing]
    fits: Mapping[str, frozenset[str]]
    """Class of receptacle -> classes of objects it may hold."""
    start: str = ""
    """Location of the agent."""
    wording: Wording = field(default_factory=Wording)

    @cached_property
    def at(self) -> dict[str, tuple[str, ...]]:
        """Location -> the receptacles that are used from there."""
        found: dict[str, tuple[str, ...]] = {}
        for name, receptacle in self.receptacles.items():
            found[receptacle.location] = (*found.get(receptacle.location, ()), name)
        return found


def class_of(name: str) -> str:
    """ "apple 1" -> "apple"."""
    return name.rpartition(" ")[0]


def numbered(classes: list[str]) -> list[str]:
    """Names in the order of the real engine: classes by name, the highest number of each first."""
    names = []
    for kind in sorted(set(classes)):
        names += [f"{kind} {number}" for number in range(classes.count(kind), 0, -1)]
    return names
