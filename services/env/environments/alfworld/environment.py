"""The household as an environment.

Transcript (task: put a book in shelf; three receptacles, core commands):

    You are in the middle of a room. Looking quickly around you, you see a drawer 1, a shelf 1, and a desk 1.
    go to drawer 1              You arrive at drawer 1. The drawer 1 is closed.
    open drawer 1               You open the drawer 1. The drawer 1 is open. In it, you see a book 1.
    take book 1 from drawer 1   You pick up the book 1 from the drawer 1.
    go to shelf 1               You arrive at shelf 1. On the shelf 1, you see nothing.
    move book 1 to shelf 1      You move the book 1 to the shelf 1.
"""

import random
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from services.env.environment import Environment, EnvironmentKwargs, KwargsError, Observation, Outcome
from services.env.environments.alfworld.engine import DONE_TO, NOTHING_HAPPENS, Command, Household
from services.env.environments.alfworld.game import TASK_TYPES, draw_game
from services.env.environments.alfworld.rooms import CHANGES, LAMP, OBJECT_NAMES, RECEPTACLES

TaskType = Literal[
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
]
assert get_args(TaskType) == TASK_TYPES

SENTENCES = (
    "You are in the middle of a room. Looking quickly around you, you see nothing. You arrive at On the The is closed. "
    "is open. In it, You open the You close the You pick up the from the You move the to the You turn on the using the "
    "You are facing the Next to it, You are carrying: You are not carrying anything. This is a There's nothing special "
    "about Nothing happens. , and at see hold checked . , go to open close take from move use with look inventory "
    "examine put two in look at under the hot cool clean middle closed"
)


def _sizes(values: tuple[int, ...]) -> tuple[int, ...]:
    if not values or not all(2 <= value <= 8 for value in values):
        raise ValueError("want numbers from 2 to 8, at least one")
    return values


class AlfworldKwargs(EnvironmentKwargs):
    """What the household can be told."""

    receptacles: Annotated[tuple[int, ...], AfterValidator(_sizes)] = Field(
        (3,), description="Receptacles in the room; one of these is drawn for each task."
    )
    objects: int = Field(3, ge=0, le=6, description="Objects beside the task's.")
    task_types: tuple[TaskType, ...] = Field(
        ("pick_and_place_simple", "look_at_obj_in_light"), min_length=1, description="One is drawn for each task."
    )
    commands: Literal["core", "all"] = Field("core", description="core: without look, inventory and examine.")
    view: Literal["feedback", "state"] = Field(
        "feedback",
        description="feedback: what the command led to, as in ALFWorld; state: what is around, what is held and which "
        "places were looked into, for agents without memory.",
    )
    max_turns: int = Field(20, ge=1, le=100_000, description="The episode is truncated after this many steps.")


class Alfworld(Environment):
    """ALFWorld's household tasks in small generated rooms. The test split pairs object and goal as train never does."""

    Kwargs = AlfworldKwargs
    kwargs: AlfworldKwargs
    prompt_template = "alfworld/v1"

    def reset(self, seed: int, split: str) -> Observation:
        kwargs, rng = self.kwargs, random.Random(f"alfworld/{split}/{seed}")
        size = rng.choice(kwargs.receptacles)
        try:
            game = draw_game(rng, kwargs.task_types, size, kwargs.objects, test=split == "test")
        except RuntimeError as error:
            raise KwargsError(f"receptacles, task_types: {error}") from error
        self._house = Household(game)
        return self._observation(self._house.intro())

    def step(self, action: str) -> Outcome:
        action = " ".join(action.split())
        command = self._commands().get(action)
        said = NOTHING_HAPPENS if command is None else command()
        won = command is not None and self._house.solved()
        seen = self._observation(said)
        return Outcome(observation=seen, reward=float(won), won=won, terminated=won, action_valid=command is not None)

    def state(self) -> object:
        house = self._house
        return (
            *(house.game.task, house.game.receptacles, sorted(house.where.items()), house.at, house.held),
            *(sorted(house.opened), sorted(house.lit), {verb: sorted(done) for verb, done in house.done_to.items()}),
            sorted(house.visited) if self.kwargs.view == "state" else [],
        )

    @classmethod
    def vocabulary(cls) -> list[str]:
        numbers = {f"{number}{mark}" for number in range(1, 10) for mark in ("", ",", ".")}
        classes = {*OBJECT_NAMES, *RECEPTACLES, LAMP}
        return sorted({*SENTENCES.split(), *numbers, *classes, *CHANGES, *DONE_TO.values()})

    def _commands(self) -> dict[str, Command]:
        able = self._house.commands()
        return able if self.kwargs.commands == "core" else able | self._house.looking()

    def _observation(self, said: str) -> Observation:
        house = self._house
        around = self._around()
        checked = " , ".join(r for r in house.game.receptacles if r in house.visited) or "nothing"
        state = f"{around} checked {checked} ."
        return Observation(
            text=said if self.kwargs.view == "feedback" else state,
            anchor=f"{house.game.task} . {around if self.kwargs.view == 'feedback' else state}",
            task=house.game.task,
            admissible_actions=tuple(self._commands()),
        )

    def _around(self) -> str:
        """Where the agent is, what it sees there and what it holds: words apart from their marks."""
        house = self._house
        if house.at is None:
            place, seen = "middle", " , ".join(house.game.receptacles)
        else:
            inside = [f"{name} {self._marks(name)}".strip() for name in house.inside(house.at)]
            place, seen = house.at, "closed" if house.is_shut(house.at) else " , ".join(inside) or "nothing"
        held = f"{house.held} {self._marks(house.held)}".strip() if house.held else "nothing"
        return f"at {place} . see {seen} . hold {held} ."

    def _marks(self, name: str) -> str:
        house = self._house
        marks = [DONE_TO[verb] for verb, changed in house.done_to.items() if name in changed]
        return " ".join([*marks, *(["on"] if name in house.lit else [])])
