"""The rules of the household: the effect of a command, its feedback, and when the task is done.

They are the rules of ALFWorld's PDDL domain and grammar as its engine executes them, quirks included: `look` in the
middle of the room sees nothing, a thing can be examined only in the hand, `use` turns a lamp on and never off, and the
things beside one are listed only if they were taken from a receptacle of the same place before.
"""

from collections.abc import Callable, Iterable
from functools import partial

from services.env.environments.alfworld.game import CHANGE_OF, Game, Receptacle

Command = Callable[[], str]
"""Does something and tells what came of it."""
NOTHING_HAPPENS = "Nothing happens."
CHANGES = {
    "clean": ("cleanable", "sinkbasin", "clean"),
    "heat": ("heatable", "microwave", "hot"),
    "cool": ("coolable", "fridge", "cool"),
}
"""Verb -> what the thing must be, the class of receptacle it is done with, and the mark it leaves."""
UNDOES = {"hot": "cool", "cool": "hot"}
KNIVES = frozenset({"knife", "butterknife"})
MARKS = ("clean", "hot", "cool", "toggled", "sliced")
CONDITIONS = (
    (("clean", "hot", "sliced"), "hot and clean sliced"),
    (("clean", "cool", "sliced"), "cool and clean sliced"),
    (("clean", "sliced"), "clean sliced"),
    (("hot", "sliced"), "hot sliced"),
    (("cool", "sliced"), "cool sliced"),
    (("clean", "hot"), "hot and clean"),
    (("clean", "cool"), "cool and clean"),
    (("hot",), "hot"),
    (("clean",), "clean"),
    (("cool",), "cold"),
)
"""The name of a thing by its marks: the first line of which it has all marks."""
HELP = "Available commands:\n" + "\n".join(
    (
        "  look:                             look around your current location",
        "  inventory:                        check your current inventory",
        "  go to (receptacle):               move to a receptacle",
        "  open (receptacle):                open a receptacle",
        "  close (receptacle):               close a receptacle",
        "  take (object) from (receptacle):  take an object from a receptacle",
        "  move (object) to (receptacle):  place an object in or on a receptacle",
        "  examine (something):              examine a receptacle or an object",
        "  use (object):                     use an object",
        "  heat (object) with (receptacle):  heat an object using a receptacle",
        "  clean (object) with (receptacle): clean an object using a receptacle",
        "  cool (object) with (receptacle):  cool an object using a receptacle",
        "  slice (object) with (object):     slice an object using a sharp object\n",
    )
)


def enumerated(items: list[str]) -> str:
    """ "x, y, and z", or "nothing"."""
    if len(items) < 2:
        return items[0] if items else "nothing"
    return f"{', '.join(items[:-1])}, and {items[-1]}"


def listed(names: Iterable[str]) -> str:
    """ "a x 1, a y 1, and a z 1", or "nothing"."""
    return enumerated([f"a {name}" for name in names])


class Household:
    """One game being played."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.location = game.start
        self.held: str | None = None
        self.contents: dict[str, set[str]] = {name: set() for name in game.receptacles}
        """Receptacle -> things in or on it."""
        for name, thing in game.things.items():
            for place in thing.places:
                self.contents[place].add(name)
        self.lying = {(name, thing.location) for name, thing in game.things.items() if thing.location}
        """Things and the locations they are at; the engine keeps more than one in the published games' odd cases."""
        self.taken: set[tuple[str, str]] = set()
        """Things and the receptacles they were taken from and not put back into."""
        self.opened = {name for name, receptacle in game.receptacles.items() if receptacle.opened}
        self.marks = {mark: {n for n, thing in game.things.items() if mark in thing.marks} for mark in MARKS}
        self.visited: set[str] = set()

    @property
    def here(self) -> tuple[str, ...]:
        """The receptacles within reach; none in the middle of the room."""
        return self.game.at.get(self.location, ())

    def intro(self) -> str:
        """The first thing that is said."""
        if self.here:
            return self._look()
        seen = listed(self.game.receptacles)
        return f"You are in the middle of a room. Looking quickly around you, you see {seen}."

    def is_shut(self, receptacle: str) -> bool:
        """Whether one must open it to see what is inside."""
        return self.game.receptacles[receptacle].openable and receptacle not in self.opened

    def inside(self, receptacle: str) -> list[str]:
        """Objects in or on it, seen or not, in the order in which they are told."""
        held_there = self.contents[receptacle]
        return [name for name in self.game.things if name in held_there] if held_there else []

    def commands(self) -> dict[str, Command]:
        """Everything that can be done now, without looking about: command -> what does it and tells."""
        able: dict[str, Command] = {
            f"go to {name}": partial(self._go, name)
            for name, receptacle in self.game.receptacles.items()
            if receptacle.location != self.location
        }
        for name in self.here:
            self._add_commands_at(able, name, self.game.receptacles[name])
        held = self.held
        if held is not None and self.game.things[held].kind in KNIVES:
            for name, thing in self.game.things.items():
                if "sliceable" in thing.able and (name, self.location) in self.lying:
                    able[f"slice {name} with {held}"] = partial(self._slice, name, held)
        return able

    def looking(self) -> dict[str, Command]:
        """Commands that only tell something."""
        able: dict[str, Command] = {"look": self._look, "inventory": self._inventory}
        if self.game.wording.helps:
            able["help"] = lambda: HELP
        for name in self.here:
            able[f"examine {name}"] = partial(self._contents, name)
        if self.held is not None:
            able[f"examine {self.held}"] = partial(self._condition, self.held)
        return able

    def solved(self) -> bool:
        """Whether the task is done."""
        game = self.game
        if game.task_type == "look_at_obj_in_light":
            if self.held is None or game.things[self.held].kind != game.target:
                return False
            lit = [name for name in self.marks["toggled"] if game.things[name].kind == game.goal]
            return any(name in self.contents[receptacle] for name in lit for receptacle in self.here)
        change = CHANGE_OF.get(game.task_type)
        changed = None if change is None else self.marks[CHANGES[change][2]]
        wanted = 2 if game.task_type == "pick_two_obj_and_place" else 1
        for place, receptacle in game.receptacles.items():
            if receptacle.kind == game.goal:
                targets = [name for name in self.contents[place] if game.things[name].kind == game.target]
                if sum(changed is None or name in changed for name in targets) >= wanted:
                    return True
        return False

    def state(self) -> tuple[object, ...]:
        """Everything that any command could ever show a difference by, beside the game itself."""
        contents = [(place, sorted(names)) for place, names in self.contents.items() if names]
        marked = [(mark, sorted(names)) for mark, names in self.marks.items() if names]
        return (
            *(self.location, self.held, contents, sorted(self.opened), marked),
            *(sorted(self.lying), sorted(self.taken)),
        )

    def _add_commands_at(self, able: dict[str, Command], name: str, receptacle: Receptacle) -> None:
        shut, held, things = self.is_shut(name), self.held, self.game.things
        if receptacle.openable:
            able[f"{'open' if shut else 'close'} {name}"] = partial(self._open if shut else self._close, name)
        for thing in self.inside(name):
            if "toggleable" in things[thing].able:
                able[f"use {thing}"] = partial(self._use, thing)
            if held is None and not shut and "pickupable" in things[thing].able:
                able[f"take {thing} from {name}"] = partial(self._take, thing, name)
        if held is None:
            return
        if not shut and things[held].kind in self.game.fits.get(receptacle.kind, ()):
            able[self.game.wording.put.format(o=held, r=name)] = partial(self._put, held, name)
        for verb, (must_be, kind, _) in CHANGES.items():
            if receptacle.kind == kind and must_be in things[held].able:
                able[f"{verb} {held} with {name}"] = partial(self._change, verb, held, name)

    def _contents(self, receptacle: str) -> str:
        if self.is_shut(receptacle):
            return f"The {receptacle} is closed."
        seen = listed(self.inside(receptacle))
        if self.game.receptacles[receptacle].openable:
            return f"The {receptacle} is open. In it, you see {seen}."
        return f"On the {receptacle}, you see {seen}."

    def _condition(self, name: str) -> str:
        thing = self.game.things[name]
        if "isreceptacleobject" in thing.able:
            inner = listed(other for other, what in self.game.things.items() if what.inside == name)
            return f"This is a normal {name}. In it, you see {inner}."
        for marks, words in CONDITIONS:
            if all(name in self.marks[mark] for mark in marks):
                return f"This is a {words} {name}."
        if "toggleable" in thing.able and name in self.marks["toggled"]:
            return f"This {name} is on."
        if name in self.marks["sliced"]:
            return f"This is a sliced {name}."
        return f"There's nothing special about {name}."

    def _look(self) -> str:
        if not self.here:
            return "You are in the middle of a room. Looking quickly around you, you see nothing."
        beside = [
            name
            for name in self.game.things
            for receptacle in self.here
            if (name, self.location) in self.lying and (name, receptacle) in self.taken
        ]
        return f"You are facing the {enumerated(list(self.here))}. Next to it, you see {listed(beside)}."

    def _inventory(self) -> str:
        return f"You are carrying: a {self.held}." if self.held else "You are not carrying anything."

    def _go(self, name: str) -> str:
        receptacle = self.game.receptacles[name]
        self.location = receptacle.location
        if not self.is_shut(name):
            self.visited.add(name)
        return f"You arrive at {receptacle.arrival or name}. {self._contents(name)}"

    def _open(self, receptacle: str) -> str:
        self.opened.add(receptacle)
        self.visited.add(receptacle)
        return f"You open the {receptacle}. {self._contents(receptacle)}"

    def _close(self, receptacle: str) -> str:
        self.opened.discard(receptacle)
        return f"You close the {receptacle}."

    def _use(self, lamp: str) -> str:
        self.marks["toggled"].add(lamp)
        return f"You turn on the {lamp}."

    def _take(self, name: str, receptacle: str) -> str:
        self.contents[receptacle].remove(name)
        self.lying.discard((name, self.location))
        self.taken.add((name, receptacle))
        self.held = name
        return f"You pick up the {name} from the {receptacle}."

    def _put(self, name: str, receptacle: str) -> str:
        self.contents[receptacle].add(name)
        self.lying.add((name, self.location))
        self.taken.discard((name, receptacle))
        self.held = None
        return self.game.wording.put_said.format(o=name, r=receptacle)

    def _change(self, verb: str, name: str, receptacle: str) -> str:
        mark = CHANGES[verb][2]
        self.marks[mark].add(name)
        if mark in UNDOES:
            self.marks[UNDOES[mark]].discard(name)
        return f"You {verb} the {name} using the {receptacle}."

    def _slice(self, name: str, knife: str) -> str:
        self.marks["sliced"].add(name)
        return f"You sliced the {name} with the {knife}."
