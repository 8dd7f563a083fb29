"""An environment that breaks most of the contract, for the checks to find. Imported by worker processes too."""

import itertools
import os
import random

import numpy as np
from pydantic import Field

from gigpo.env.environment import Capabilities, Environment, EnvironmentKwargs, Observation, Outcome


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


class Dice(Environment):
    """Draws from the system, whatever the seed, and says so."""

    capabilities = Capabilities(deterministic=False)

    def reset(self, seed: int, split: str) -> Observation:
        return self._seen("start")

    def step(self, action: str) -> Outcome:
        return Outcome(observation=self._seen(str(random.SystemRandom().random())), action_valid=action == "roll")

    def _seen(self, text: str) -> Observation:
        return Observation(text=text, admissible_actions=("roll",))


class GlobalDice(Dice):
    """Draws from the generators that every environment of a process shares, and takes itself for deterministic."""

    capabilities = Capabilities()

    def step(self, action: str) -> Outcome:
        drawn = f"{random.random()} {np.random.random()}"
        return Outcome(observation=self._seen(drawn), action_valid=action == "roll")
