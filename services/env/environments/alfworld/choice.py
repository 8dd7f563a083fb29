"""Chooses the game of a seed from a job's kwargs."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, JsonValue, model_validator

from gigpo.env.data import DataFolder
from gigpo.env.environment import EnvironmentKwargs, KwargsError
from services.env.environments.alfworld.game import CHANGE_OF, TASK_TYPES, Game
from services.env.environments.alfworld.generator import Layout, draw_game
from services.env.environments.alfworld.published import NoGameError, pick_folder, read_game
from services.env.environments.choices import Choices

SPLITS = ("train", "valid_seen", "valid_unseen")
TaskType = Literal[
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
]
assert get_args(TaskType) == TASK_TYPES
LARGEST_ROOM = 54
"""Receptacles of the fullest floor plan."""


FULL_ROOMS: Mapping[str, JsonValue] = {
    "receptacles": "all",
    "objects": "all",
    "task_types": list(TASK_TYPES),
    "commands": "all",
    "max_turns": 50,
}
"""Kwargs of games as published, but for where things lie."""


class GameKwargs(EnvironmentKwargs):
    """A job's choices about the games."""

    receptacles: Choices[Annotated[int, Field(ge=2, le=LARGEST_ROOM)]] | Literal["all"] = Field(
        (3,),
        description="Receptacles in the room: one of these numbers is drawn for each task, at most what the floor plan "
        "has; all: the whole floor plan.",
    )
    objects: Annotated[int, Field(ge=0, le=40)] | Literal["all"] = Field(
        3,
        description="Classes of objects beside the task's, one object of each; all: every class of the floor plan, one "
        "to three objects of each.",
    )
    task_types: Choices[TaskType] = Field(
        ("pick_and_place_simple", "look_at_obj_in_light"), description="One is drawn for each task."
    )
    data: DataFolder | None = Field(
        None,
        description="The published games instead of generated ones: a folder json_2.1.1 below the service's data root. "
        "Seeds 0 to n - 1 go through the split's n games; receptacles and objects are then as the games have them.",
    )
    commands: Literal["core", "all"] = Field("core", description="core: without look, inventory, examine and help.")

    @model_validator(mode="after")
    def _room_for_the_task(self) -> "GameKwargs":
        changing = sorted(set(self.task_types) & set(CHANGE_OF))
        if self.data is None and self.receptacles != "all" and min(self.receptacles) < 3 and changing:
            raise ValueError(f"receptacles: {changing[0]} needs at least 3, got {min(self.receptacles)}")
        return self


def named_game(kwargs: GameKwargs, seed: int, split: str) -> tuple[Game, Path | None]:
    """The game that seed, split and kwargs name, and the folder it was read from; KwargsError where there is none."""
    if kwargs.data is None:
        rng = random.Random(f"alfworld/{split}/{seed}")
        return draw_game(rng, kwargs.task_types, split, Layout(kwargs.receptacles, kwargs.objects)), None
    try:
        folder = pick_folder(kwargs.data, split, seed, kwargs.task_types)
        return read_game(folder), folder
    except NoGameError as error:
        raise KwargsError(f"data: {error}") from error
