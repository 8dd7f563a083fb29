"""A text grid: fetch an item, carry it to a piece of furniture or to a corner, put it there.

The world is a square of cells, some of them walls. The agent sees where things are relative to itself. With more than
one item or piece of furniture only the task says which of them matter; with `goal: corner` only the task says which of
the four corners is meant, and an item put into another corner ends the episode without reward.

Transcript (task: put apple in table; a world of 2 x 2 without walls):

    apple 1 north . table 1 east . blocked south west . hold nothing .              go north
    apple here . table 1 south 1 east . blocked north west . hold nothing .         take apple
    table 1 south 1 east . blocked north west . hold apple .                        go east
    table 1 south . blocked north east . hold apple .                               go south
    table here . blocked south east . hold apple .                                  put apple

With `goal: corner` (task: put apple in north east):

    apple here . blocked south west . at south west .                               take apple
    apple held . blocked south west . at south west .                               go north
    apple held . blocked north west . at north west .                               go east
    apple held . blocked north east . at north east .                               put apple
"""

import random
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gigpo.env.environment import Environment, EnvironmentKwargs, Observation, Outcome
from services.env.environments.choices import Choices
from services.env.environments.splits import held_out

Cell = tuple[int, int]
"""Column and row, from the north-west corner."""

ITEMS = (
    *("apple", "bread", "cup", "plate", "book", "pen", "key", "lamp", "soap", "towel", "shirt", "phone"),
    *("pear", "plum", "lemon", "carrot", "onion", "egg", "cheese", "butter", "honey", "salt", "fork", "knife"),
    *("spoon", "bowl", "pan", "jug", "glass", "bottle", "candle", "clock", "mirror", "vase", "brush", "comb"),
    *("hat", "glove", "scarf", "sock", "shoe", "belt", "ring", "coin", "ball", "doll", "kite", "drum"),
)
COMMON_ITEMS = 12
"""Number of `ITEMS` that tasks use by default."""
FURNITURE = (
    *("fridge", "cabinet", "drawer", "box", "table", "desk"),
    *("shelf", "bed", "sofa", "counter", "sink", "stove"),
)
DIRECTIONS: dict[str, Cell] = {"north": (0, -1), "south": (0, 1), "west": (-1, 0), "east": (1, 0)}
CORNERS = ("north west", "north east", "south west", "south east")
OTHER_WORDS = ("put", "in", "go", "take", "here", "at", "blocked", "hold", "held", "nothing", ".")
MAX_SIZE = 9
MAX_DRAWS = 10_000
"""Worlds drawn before giving up. The densest that the kwargs allow needs a few dozen."""


def is_held_out(item: str, goal: str) -> bool:
    """Whether a task with this pair is for the test split only: one in six; each item and goal has some."""
    return held_out(ITEMS.index(item) + (*FURNITURE, *CORNERS).index(goal))


class GridKwargs(EnvironmentKwargs):
    """Settings of the grid."""

    size: Choices[Annotated[int, Field(ge=2, le=MAX_SIZE)]] = Field(
        (3, 4, 5), description="Side of the square, cells; one of these is drawn for each task."
    )
    walls: Choices[Annotated[int, Field(ge=0)]] = Field(
        (0, 1, 2, 3), description="Number of wall cells; one of these is drawn for each task."
    )
    items: int = Field(1, ge=1, le=len(ITEMS), description="Things that can be taken; one is the task's.")
    names: int = Field(
        COMMON_ITEMS, ge=1, le=len(ITEMS), description="Names that items are drawn from: the first so many of all."
    )
    goal: Literal["furniture", "corner"] = Field(
        "furniture", description="Where the item goes: furniture that is seen, or a corner that only the task names."
    )
    furniture: int = Field(1, ge=1, le=len(FURNITURE), description="Things to put items in; one is the task's.")
    invalid_reward: float = Field(0.0, ge=-1, le=0, description="Reward of an action that means nothing here.")
    practice: bool = Field(
        False,
        description="Show random states, a new world after every step, without reward: for learning the format only.",
    )

    @model_validator(mode="after")
    def _room_for_all(self) -> Self:
        if self.items > self.names:
            raise ValueError(f"items: want at most names = {self.names}, got {self.items}")
        if self.goal == "corner" and max(self.walls) > min(self.size) ** 2 - 4:
            raise ValueError(f"walls: want at most {min(self.size) ** 2 - 4} beside the corners, got {self.walls}")
        free = min(self.size) ** 2 - max(self.walls)
        needed = 1 + self.items + (self.furniture if self.goal == "furniture" else 0)
        if free < needed:
            raise ValueError(f"size, walls: {free} free cells in the smallest world, {needed} needed")
        return self


@dataclass
class World:
    """One state of the grid. `items` and `goals` map names to cells, in the order in which they are listed."""

    size: int
    walls: frozenset[Cell]
    at: Cell
    items: dict[str, Cell]
    goals: dict[str, Cell]
    """Places for an item: furniture, or the four corners."""
    item: str
    """The task's item."""
    goal: str
    """The task's furniture or corner."""
    corners: bool = False
    """The goals are corners: not listed, and the first `put` ends the episode."""
    held: str | None = None

    @property
    def task(self) -> str:
        """The task, in words."""
        return f"put {self.item} in {self.goal}"

    def beside(self, cell: Cell, direction: str) -> Cell | None:
        """The cell next to one; None where a wall or the edge is."""
        x, y = cell[0] + DIRECTIONS[direction][0], cell[1] + DIRECTIONS[direction][1]
        inside = 0 <= x < self.size and 0 <= y < self.size
        return (x, y) if inside and (x, y) not in self.walls else None

    def reachable(self) -> set[Cell]:
        """Every cell that can be walked to."""
        seen, border = {self.at}, [self.at]
        while border:
            cell = border.pop()
            for direction in DIRECTIONS:
                neighbour = self.beside(cell, direction)
                if neighbour is not None and neighbour not in seen:
                    seen.add(neighbour)
                    border.append(neighbour)
        return seen

    def text(self) -> str:
        """The agent's view, the task aside."""
        blocked = [direction for direction in DIRECTIONS if self.beside(self.at, direction) is None] or ["nothing"]
        if self.corners:
            where = [f"{name} {self._whereabouts(name)} ." for name in self.items]
            corner = next((name for name, cell in self.goals.items() if cell == self.at), "nothing")
            return " ".join([*where, "blocked", *blocked, ". at", corner, "."])
        things = [*((name, cell) for name, cell in self.items.items() if name != self.held), *self.goals.items()]
        where = [f"{name} {self._relative(cell)} ." for name, cell in things]
        return " ".join([*where, "blocked", *blocked, ". hold", self.held or "nothing", "."])

    def admissible(self) -> tuple[str, ...]:
        """Every action that means something here."""
        moves = [f"go {direction}" for direction in DIRECTIONS if self.beside(self.at, direction) is not None]
        if self.held is None:
            return (*moves, *(f"take {name}" for name, cell in self.items.items() if cell == self.at))
        return (*moves, f"put {self.held}") if self.at in self.goals.values() else tuple(moves)

    def apply(self, action: str) -> bool:
        """Change the state by an admissible action; whether that fulfilled the task."""
        verb, name = action.split()
        if verb == "go":
            self.at = self.beside(self.at, name) or self.at
            return False
        if verb == "take":
            self.held = name
            return False
        self.held, self.items[name] = None, self.at
        return name == self.item and self.at == self.goals[self.goal]

    def _whereabouts(self, item: str) -> str:
        return "held" if item == self.held else self._relative(self.items[item])

    def _relative(self, cell: Cell) -> str:
        east, south = cell[0] - self.at[0], cell[1] - self.at[1]
        words = []
        if south:
            words.append(f"{abs(south)} {'south' if south > 0 else 'north'}")
        if east:
            words.append(f"{abs(east)} {'east' if east > 0 else 'west'}")
        return " ".join(words) or "here"


def draw_world(rng: random.Random, kwargs: GridKwargs, *, test: bool) -> World:
    """A start state, solvable: everything can be reached, and the task's pair belongs to the split."""
    corners = kwargs.goal == "corner"
    for _ in range(MAX_DRAWS):
        items = rng.sample(ITEMS[: kwargs.names], kwargs.items)
        goals = list(CORNERS) if corners else rng.sample(FURNITURE, kwargs.furniture)
        item, goal = rng.choice(items), rng.choice(goals)
        if is_held_out(item, goal) != test:
            continue
        size = rng.choice(kwargs.size)
        cells = [(x, y) for x in range(size) for y in range(size)]
        fixed = [(0, 0), (size - 1, 0), (0, size - 1), (size - 1, size - 1)] if corners else []
        walls = frozenset(rng.sample([cell for cell in cells if cell not in fixed], rng.choice(kwargs.walls)))
        free = [cell for cell in cells if cell not in walls]
        at, *places = rng.sample(free, 1 + len(items) + (0 if corners else len(goals)))
        world = World(
            size=size,
            walls=walls,
            at=at,
            items=dict(zip(items, places, strict=False)),
            goals=dict(zip(goals, fixed or places[len(items) :], strict=True)),
            item=item,
            goal=goal,
            corners=corners,
        )
        if world.items[item] != world.goals[goal] and world.reachable().issuperset([*places, *fixed]):
            return world
    raise RuntimeError(f"no solvable world in {MAX_DRAWS} draws with {kwargs!r}")


def draw_state(rng: random.Random, kwargs: GridKwargs, *, test: bool) -> World:
    """A random state: half the time something is held; half the time the agent stands where it can take or put."""
    world = draw_world(rng, kwargs, test=test)
    if rng.random() < 0.5:
        world.held = rng.choice(list(world.items))
    useful = world.items if world.held is None else world.goals
    if rng.random() < 0.5:
        world.at = rng.choice(list(useful.values()))
    else:
        world.at = rng.choice(sorted(world.reachable()))
    return world


class Grid(Environment):
    """Text grid: fetch an item, carry it where the task says. The test split has pairs that train never has."""

    kwargs: GridKwargs

    Kwargs = GridKwargs
    prompt_template = "grid/v1"
    examples = ({}, {"goal": "corner", "size": [3], "walls": [0]})

    def reset(self, seed: int, split: str) -> Observation:
        self._rng = random.Random(f"grid/{split}/{seed}")
        self._test = split == "test"
        draw = draw_state if self.kwargs.practice else draw_world
        self._world = draw(self._rng, self.kwargs, test=self._test)
        return self._observation()

    def step(self, action: str) -> Outcome:
        action = " ".join(action.split())
        valid = action in self._world.admissible()
        if self.kwargs.practice:
            self._world = draw_state(self._rng, self.kwargs, test=self._test)
            return Outcome(observation=self._observation(), action_valid=valid)
        won = valid and self._world.apply(action)
        over = won or (valid and self._world.corners and action.startswith("put "))
        reward = float(won) if valid else self.kwargs.invalid_reward
        return Outcome(observation=self._observation(), reward=reward, won=won, terminated=over, action_valid=valid)

    def state(self) -> object:
        world = self._world
        return (
            *(world.size, sorted(world.walls), world.at, world.task, world.held),
            *(list(world.items.items()), list(world.goals.items())),
        )

    @classmethod
    def vocabulary(cls) -> list[str]:
        distances = (str(n) for n in range(1, MAX_SIZE))
        return sorted({*ITEMS, *FURNITURE, *DIRECTIONS, *OTHER_WORDS, *distances})

    def _observation(self) -> Observation:
        text = self._world.text()
        return Observation(
            text=text,
            anchor=f"{self._world.task} . {text}",
            task=self._world.task,
            admissible_actions=self._world.admissible(),
        )
