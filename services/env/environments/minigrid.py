"""MiniGrid and BabyAI as text: the agent's view, or the whole board.

Transcript (id BabyAI-GoToObj-v0, seed 0, train; the mission is the task: go to the grey box):

    You face east
    You see a wall 3 steps left
    You see a grey box 4 steps forward and 1 step left
    You see a wall 6 steps forward
    You carry nothing                                       go forward (3 times), turn left, go forward, turn right
"""

import contextlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field

from gigpo.env.environment import Capabilities, Environment, EnvironmentKwargs, KwargsError, Observation, Outcome
from services.env.environments.splits import reset_within

if TYPE_CHECKING:
    from minigrid.core.world_object import Door, WorldObj
    from minigrid.envs.babyai.core.verifier import Instr
    from minigrid.minigrid_env import MiniGridEnv

ACTIONS = ("turn left", "turn right", "go forward", "pick up", "drop", "toggle", "done")
"""Actions in the order of MiniGrid's numbers."""
COMPASS = ("east", "south", "west", "north")
ARROWS = (">>", "vv", "<<", "^^")
COLOURS = {"red": "R", "green": "G", "blue": "B", "purple": "P", "yellow": "Y", "grey": "E"}
OBJECTS = {"ball": "O", "box": "X", "key": "K", "goal": "*", "lava": "~", "floor": "_", "wall": "#"}
DOORS = {"open": "/", "closed": "+", "locked": "L"}
EMPTY = ".."
SENTENCES = "You face see carry nothing a an step steps forward and left right here"
MISSIONS = (
    "a after and at avoid ball ball, behind blue box box, door door, end fetch find from front get go goal green grey "
    "hallway in key key, lava left left, matching must near next object of on open opening pick purple put reach red "
    "right right, room, rooms square the then to traverse unlock up use yellow you you, your"
)
"""Words of the missions of all levels."""


class MiniGridKwargs(EnvironmentKwargs):
    """Settings of MiniGrid."""

    id: str = Field(
        "BabyAI-GoToObj-v0",
        pattern=r"^(MiniGrid|BabyAI)-[\w-]+$",
        description="A registered MiniGrid or BabyAI id.",
    )
    view: Literal["words", "board"] = Field(
        "words", description="words: what the agent sees in front of it; board: everything, in symbols."
    )
    reward: Literal["success", "native"] = Field(
        "success", description="success: 1 for a fulfilled mission; native: MiniGrid's own, which falls with time."
    )
    max_turns: int = Field(64, ge=1, le=100_000, description="The episode is truncated after this many steps.")


class MiniGrid(Environment):
    """MiniGrid and BabyAI in words: walk, pick up, open doors as the mission says. 178 levels by id."""

    Kwargs = MiniGridKwargs
    kwargs: MiniGridKwargs
    capabilities = Capabilities(thread_safe=False)
    prompt_template = "minigrid/v1"
    requires = ("minigrid",)
    extra = "minigrid"
    examples = ({}, {"id": "MiniGrid-DoorKey-5x5-v0", "view": "board"})

    def __init__(self, kwargs: MiniGridKwargs) -> None:
        super().__init__(kwargs)
        import gymnasium

        with contextlib.redirect_stdout(io.StringIO()):  # pygame greets
            import minigrid  # noqa: F401 - registers its ids

        try:
            self._env = gymnasium.make(kwargs.id, disable_env_checker=True)
        except (gymnasium.error.Error, ImportError) as error:
            raise KwargsError(f"id: {kwargs.id} cannot be made: {error}") from error
        self._grid = cast("MiniGridEnv", self._env.unwrapped)
        """MiniGrid's own object, whose attributes are the state."""

    def reset(self, seed: int, split: str) -> Observation:
        def start(number: int) -> str:
            with contextlib.redirect_stdout(io.StringIO()):  # BabyAI prints every mission that it rejects
                self._env.reset(seed=number)
            return f"{self.kwargs.id} {self._grid.mission} {self._board()}"

        reset_within(split, seed, start)
        return self._observation()

    def step(self, action: str) -> Outcome:
        action = " ".join(action.lower().split())
        if action not in self._admissible():
            return Outcome(observation=self._observation(), action_valid=False)
        _, reward, terminated, truncated, _ = self._env.step(ACTIONS.index(action))
        won = bool(terminated) and float(reward) > 0
        return Outcome(
            observation=self._observation(),
            reward=float(reward) if self.kwargs.reward == "native" else float(won),
            won=won,
            terminated=bool(terminated),
            truncated=bool(truncated),
            action_valid=True,  # actions in capitals count too
        )

    def state(self) -> object:
        grid = self._grid
        cells = [thing_state(thing) for thing in grid.grid.grid]
        at = (int(grid.agent_pos[0]), int(grid.agent_pos[1]), int(grid.agent_dir))
        return (
            grid.mission,
            grid.width,
            cells,
            at,
            thing_state(grid.carrying),
            progress(getattr(grid, "instrs", None)),
        )

    def close(self) -> None:
        self._env.close()

    @classmethod
    def vocabulary(cls) -> list[str]:
        coloured = {f"{letter}{colour}" for letter in (OBJECTS | DOORS).values() for colour in COLOURS.values()}
        distances = (str(number) for number in range(1, 10))
        actions = " ".join(ACTIONS).split()
        things = {*OBJECTS, *DOORS, "door", *COLOURS, *COMPASS, *ARROWS, EMPTY}
        return sorted({*SENTENCES.split(), *MISSIONS.split(), *actions, *things, *coloured, *distances})

    def _admissible(self) -> tuple[str, ...]:
        """Actions that would change something; `done`, which some missions end with, always."""
        grid = self._grid
        front = grid.grid.get(*grid.front_pos)
        able = {"turn left": True, "turn right": True, "done": True}
        able["go forward"] = front is None or front.can_overlap()
        able["pick up"] = grid.carrying is None and front is not None and front.can_pickup()
        able["drop"] = grid.carrying is not None and front is None
        able["toggle"] = front is not None and can_toggle(front, grid.carrying)
        return tuple(name for name in ACTIONS[: int(self._env.action_space.n)] if able[name])  # type: ignore[attr-defined]

    def _observation(self) -> Observation:
        words = "\n".join(self._seen()) if self.kwargs.view == "words" else f"{self._board()}\n{self._carried()}"
        return Observation(text=words, task=self._grid.mission, admissible_actions=self._admissible())

    def _seen(self) -> Iterator[str]:
        """The heading; things in view, the nearest first; walls straight ahead and to the sides; what is carried."""
        grid = self._grid
        view, visible = grid.gen_obs_grid()  # type: ignore[no-untyped-call,unused-ignore]
        middle, front = view.width // 2, view.height - 1
        yield f"You face {COMPASS[grid.agent_dir]}"
        found = []
        for column in range(view.width):
            for row in range(view.height):
                thing = view.get(column, row)
                ahead, aside = front - row, column - middle
                straight = thing is not None and (thing.type != "wall" or ahead == 0 or aside == 0)
                if straight and visible[column, row] and (ahead, aside) != (0, 0):
                    found.append((ahead + abs(aside), ahead, aside, named(thing)))
        walls = set()
        for _, ahead, aside, name in sorted(found):
            side = (ahead > 0, aside > 0)
            if name == "a wall":
                if side in walls:
                    continue
                walls.add(side)
            yield f"You see {name} {placed(ahead, aside)}"
        yield self._carried()

    def _carried(self) -> str:
        carried = self._grid.carrying
        return f"You carry {named(carried) if carried else 'nothing'}"

    def _board(self) -> str:
        """The whole grid, two characters a cell."""
        grid = self._grid
        cells = [tile(thing) for thing in grid.grid.grid]
        cells[int(grid.agent_pos[1]) * grid.width + int(grid.agent_pos[0])] = ARROWS[grid.agent_dir]
        lines = (cells[first : first + grid.width] for first in range(0, len(cells), grid.width))
        return "\n".join(" ".join(line) for line in lines)


def door_state(thing: "WorldObj") -> str:
    """Whether a door is open, closed or locked."""
    door = cast("Door", thing)
    return "open" if door.is_open else "locked" if door.is_locked else "closed"


def can_toggle(thing: "WorldObj", carried: "WorldObj | None") -> bool:
    """Whether toggling changes it: a box opens, a door too unless it is locked and the key is not at hand."""
    if thing.type == "door" and door_state(thing) == "locked":
        return carried is not None and carried.type == "key" and bool(carried.color == thing.color)
    return thing.type in ("door", "box")


def named(thing: "WorldObj") -> str:
    """ "a red ball", "an open blue door", "a wall", "lava"."""
    if thing.type in ("wall", "lava"):
        return "a wall" if thing.type == "wall" else "lava"
    words = [*([door_state(thing)] if thing.type == "door" else []), thing.color, thing.type]
    return f"{'an' if words[0] == 'open' else 'a'} {' '.join(words)}"


def placed(ahead: int, aside: int) -> str:
    """ "2 steps forward and 1 step left"."""
    parts = [(ahead, "forward"), (abs(aside), "right" if aside > 0 else "left")]
    return " and ".join(f"{count} {'step' if count == 1 else 'steps'} {way}" for count, way in parts if count)


def tile(thing: "WorldObj | None") -> str:
    """A cell in two characters: what it is and its colour."""
    if thing is None:
        return EMPTY
    symbol = DOORS[door_state(thing)] if thing.type == "door" else OBJECTS[thing.type]
    return symbol + COLOURS[thing.color]


def thing_state(thing: "WorldObj | None") -> object:
    """Everything that tells two things apart, what a box hides included."""
    if thing is None:
        return None
    door = door_state(thing) if thing.type == "door" else ""
    return (thing.type, thing.color, door, thing_state(getattr(thing, "contains", None)))


def progress(instruction: "Instr | None") -> object:
    """How far a BabyAI instruction is fulfilled: what its verifiers remember."""
    if instruction is None:
        return None
    parts = vars(instruction)
    done = sorted((name, value) for name, value in parts.items() if isinstance(value, bool | str))
    held = thing_state(parts.get("preCarrying"))
    return (type(instruction).__name__, done, held, [progress(parts.get(name)) for name in ("instr_a", "instr_b")])
