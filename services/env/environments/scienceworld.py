"""ScienceWorld: the 30 tasks of the benchmark with its official variations (scienceworld, an extra; needs Java).

Transcript (task boil, train, seed 0):

    Your task is to boil water. ...
    look around             This room is called the hallway. In it, you see: ...
    open door to kitchen    The door is now open.
"""

import functools
import json
from importlib import import_module
from pathlib import Path
from typing import Literal

from pydantic import Field

from gigpo.env.environment import EnvironmentKwargs, KwargsError, Observation, Outcome
from services.env.environments.java import Engine, JavaEnvironment

UNKNOWN_ACTION = "No known action matches that input."
VARIATIONS = {"train": "getVariationsTrain", "dev": "getVariationsDev", "test": "getVariationsTest"}
Simplification = Literal[
    "easy", "teleportAction", "selfWateringFlowerPots", "openContainers", "openDoors", "noElectricalAction"
]


class ScienceWorldKwargs(EnvironmentKwargs):
    """Which task, and how much easier than published."""

    task: str = Field("boil", description="Name of the task, as in the benchmark: boil, melt, find-plant, ...")
    simplifications: tuple[Simplification, ...] = Field((), description="Simplified parts; easy: all of them.")
    valid_actions: bool = Field(
        False,
        description="Whether observations name all valid actions, 100 to 1,300 of them, which takes longer than the "
        "step itself. Without them an action is valid where the engine understands it.",
    )
    max_turns: int = Field(100, ge=1, le=100_000, description="The episode is truncated after this many steps.")


class ScienceWorld(JavaEnvironment):
    """ScienceWorld: 30 tasks of school science, with the official variations as splits."""

    Kwargs = ScienceWorldKwargs
    engine = Engine("scienceworld", "scienceworld.jar", "scienceworld.runtime.pythonapi.PythonInterface")
    prompt_template = "scienceworld/v1"
    requires = ("scienceworld",)
    extra = "scienceworld"
    max_sessions = 64
    examples = ({"task": "boil"}, {"task": "melt", "valid_actions": True, "simplifications": ["easy"]})
    example_actions = ("look around", "inventory", "open door to kitchen", "go to kitchen", "wait1", "go to hallway")
    kwargs: ScienceWorldKwargs

    def reset(self, seed: int, split: str) -> Observation:
        task = self.kwargs.task
        if task not in _tasks():
            raise KwargsError(f"task: want one of {', '.join(_tasks())}, got {task!r}")
        game = self._game = self.engine.new_game()
        simplifications = ",".join(self.kwargs.simplifications)
        game("load", task, 0, simplifications, False)
        variations = list(game(VARIATIONS[split]))
        if variation := variations[seed % len(variations)]:
            game("load", task, variation, simplifications, False)
        game("reset")
        self._score = 0
        self._task = str(game("getTaskDescription")).removeprefix("Task Description:\n").strip()
        return self._observe(game("step", "look around"))

    def step(self, action: str) -> Outcome:
        known = action in self._actions if self._actions else None
        told = str(self.game("step", action))
        score = round(100 * float(self.game("getScore")))
        reward, self._score = (score - self._score) / 100, score
        failed = score < 0
        return Outcome(
            observation=self._observe(told),
            reward=reward,
            score=float(score),
            won=score >= 100,
            terminated=failed or bool(self.game("getCompleted")),
            action_valid=not told.startswith(UNKNOWN_ACTION) if known is None else known,
        )

    def _observe(self, told: str) -> Observation:
        self._actions: tuple[str, ...] = ()
        if self.kwargs.valid_actions:
            self._actions = tuple(sorted(set(self.game("getValidActionObjectCombinations"))))
        return Observation(text=told.strip(), task=self._task, admissible_actions=self._actions)


@functools.cache
def _tasks() -> tuple[str, ...]:
    listing = Path(str(import_module("scienceworld").__file__)).with_name("tasks.json")
    return tuple(sorted(task["task_name"] for task in json.loads(listing.read_text())))
