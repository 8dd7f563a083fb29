"""An environment that breaks most of the contract, for the checks to find. Imported by worker processes too."""

import itertools
import os

from pydantic import Field

from gigpo.env.environment import Environment, EnvironmentKwargs, Observation, Outcome


class BrokenKwargs(EnvironmentKwargs):
    colour: str = Field("red")


class Broken(Environment):
    """Claims to be deterministic and is not, among other things."""

    Kwargs = BrokenKwargs
    turns = itertools.count()

    def reset(self, seed: int, split: str) -> Observation:
        self.kept_open = os.open("/dev/null", os.O_RDONLY)
        return Observation(text="start", admissible_actions=("go",))

    def step(self, action: str) -> Outcome:
        if action != "go":
            raise ValueError(action)
        number = next(self.turns)
        actions = ("go", "stay") if number % 2 else ("go",)
        seen = Observation(text=f"{number} strange in {os.getpid()}", admissible_actions=actions)
        return Outcome(observation=seen, won=True)

    def state(self) -> object:
        return 1

    @classmethod
    def vocabulary(cls) -> list[str]:
        return ["go", "stay", "start"]


class Trap(Environment):
    """Every door but one ends the episode; the last one is a mistake of the author's."""

    def reset(self, seed: int, split: str) -> Observation:
        return Observation(
            text=f"seed {seed}", admissible_actions=(*(f"door {number}" for number in range(30)), "trap")
        )

    def step(self, action: str) -> Outcome:
        if action == "trap":
            raise AttributeError("no such room")
        return Outcome(observation=Observation(text="out"), terminated=True)


class Elsewhere(Broken):
    """Needs a module that nobody has."""

    requires = ("module_that_nobody_has",)
    extra = "casino"
