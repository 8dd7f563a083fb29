"""The rules: what a command does, what is said about it, when the task is done."""

from collections.abc import Callable
from functools import partial

from services.env.environments.alfworld.game import CHANGE_OF, Game, class_of
from services.env.environments.alfworld.rooms import BELONGS, CHANGES, LAMP, OPENABLE

Command = Callable[[], str]
"""Does something and tells what came of it."""
NOTHING_HAPPENS = "Nothing happens."
DONE_TO = {"clean": "clean", "heat": "hot", "cool": "cold"}
OPPOSITE = {"heat": "cool", "cool": "heat"}


def listed(names: list[str]) -> str:
    """ "a x 1, a y 1, and a z 1", or "nothing"."""
    if not names:
        return "nothing"
    articles = [f"a {name}" for name in names]
    return articles[0] if len(articles) == 1 else f"{', '.join(articles[:-1])}, and {articles[-1]}"


class Household:
    """One game being played."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.at: str | None = None
        """The receptacle where the agent stands; None: in the middle of the room."""
        self.held: str | None = None
        self.where = dict(game.placed)
        """Object -> receptacle; what is held is nowhere."""
        self.opened: set[str] = set()
        self.lit: set[str] = set()
        self.done_to: dict[str, set[str]] = {verb: set() for verb in CHANGES}
        self.visited: set[str] = set()

    def intro(self) -> str:
        """The first thing that is said."""
        seen = listed(list(self.game.receptacles))
        return f"You are in the middle of a room. Looking quickly around you, you see {seen}."

    def is_shut(self, receptacle: str) -> bool:
        """Whether one must open it to see what is inside."""
        return class_of(receptacle) in OPENABLE and receptacle not in self.opened

    def inside(self, receptacle: str) -> list[str]:
        """What lies in or on it, seen or not."""
        return [name for name, place in self.where.items() if place == receptacle]

    def commands(self) -> dict[str, Command]:
        """Everything that can be done now, without looking about: command -> what does it and tells."""
        able: dict[str, Command] = {f"go to {r}": partial(self._go, r) for r in self.game.receptacles if r != self.at}
        if self.at is None:
            return able
        here = self.at
        if class_of(here) in OPENABLE:
            verb = "close" if here in self.opened else "open"
            able[f"{verb} {here}"] = partial(self._turn, here, verb)
        for name in self.inside(here):
            if class_of(name) == LAMP:
                able[f"use {name}"] = partial(self._use, name)
            elif self.held is None and not self.is_shut(here):
                able[f"take {name} from {here}"] = partial(self._take, name, here)
        if self.held is not None:
            able |= self._with_held(self.held, here)
        return able

    def looking(self) -> dict[str, Command]:
        """Commands that only tell something."""
        able: dict[str, Command] = {"look": self._look, "inventory": self._inventory}
        if self.at is not None:
            able[f"examine {self.at}"] = partial(self._contents, self.at)
        if self.held is not None:
            able[f"examine {self.held}"] = partial(self._condition, self.held)
        return able

    def solved(self) -> bool:
        """Whether the task is done."""
        game = self.game
        if game.task_type == "look_at_obj_in_light":
            lamps = [lamp for lamp in self.lit if self.where.get(lamp) == self.at]
            return self.held is not None and class_of(self.held) == game.target and bool(lamps)
        change = CHANGE_OF.get(game.task_type)
        count: dict[str, int] = {}
        for name, place in self.where.items():
            fits = class_of(name) == game.target and class_of(place) == game.goal
            if fits and (change is None or name in self.done_to[change]):
                count[place] = count.get(place, 0) + 1
        return max(count.values(), default=0) >= (2 if game.task_type == "pick_two_obj_and_place" else 1)

    def _with_held(self, held: str, here: str) -> dict[str, Command]:
        able: dict[str, Command] = {}
        if not self.is_shut(here) and class_of(here) in BELONGS[class_of(held)]:
            able[f"move {held} to {here}"] = partial(self._move, held, here)
        for verb, (place, changeable) in CHANGES.items():
            if class_of(here) == place and class_of(held) in changeable:
                able[f"{verb} {held} with {here}"] = partial(self._change, verb, held, here)
        return able

    def _contents(self, receptacle: str) -> str:
        if self.is_shut(receptacle):
            return f"The {receptacle} is closed."
        seen = listed(self.inside(receptacle))
        if class_of(receptacle) in OPENABLE:
            return f"The {receptacle} is open. In it, you see {seen}."
        return f"On the {receptacle}, you see {seen}."

    def _condition(self, name: str) -> str:
        words = [DONE_TO[verb] for verb, changed in self.done_to.items() if name in changed]
        return f"This is a {' and '.join(words)} {name}." if words else f"There's nothing special about {name}."

    def _look(self) -> str:
        if self.at is None:
            return "You are in the middle of a room. Looking quickly around you, you see nothing."
        return f"You are facing the {self.at}. Next to it, you see nothing."

    def _inventory(self) -> str:
        return f"You are carrying: a {self.held}." if self.held else "You are not carrying anything."

    def _go(self, receptacle: str) -> str:
        self.at = receptacle
        if not self.is_shut(receptacle):
            self.visited.add(receptacle)
        return f"You arrive at {receptacle}. {self._contents(receptacle)}"

    def _turn(self, receptacle: str, verb: str) -> str:
        if verb == "close":
            self.opened.discard(receptacle)
            return f"You close the {receptacle}."
        self.opened.add(receptacle)
        self.visited.add(receptacle)
        return f"You open the {receptacle}. {self._contents(receptacle)}"

    def _use(self, lamp: str) -> str:
        self.lit.add(lamp)
        return f"You turn on the {lamp}."

    def _take(self, name: str, receptacle: str) -> str:
        del self.where[name]
        self.held = name
        return f"You pick up the {name} from the {receptacle}."

    def _move(self, name: str, receptacle: str) -> str:
        self.where[name] = receptacle
        self.held = None
        return f"You move the {name} to the {receptacle}."

    def _change(self, verb: str, name: str, receptacle: str) -> str:
        self.done_to[verb].add(name)
        if verb in OPPOSITE:
            self.done_to[OPPOSITE[verb]].discard(name)
        return f"You {verb} the {name} using the {receptacle}."
