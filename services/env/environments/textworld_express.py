"""TextWorld-Express: eight short text games with official folds (textworld-express, an extra; needs Java).

Transcript (game coin, options numLocations 2 and includeDoors 0, train, seed 1):

    Your task is to search the environment and find the coin. Once you find the coin, take it.
    You are in the kitchen. In one part of the room you see a stove. ...
    move east     You are in the pantry. ... You also see a coin. ...
    take coin     You take the coin.
"""

import json
from typing import Literal, TypedDict

from pydantic import Field

from gigpo.env.environment import EnvironmentKwargs, KwargsError, Observation, Outcome
from services.env.environments.java import Engine, Game, JavaEnvironment

FIRST_SEED = {"train": 0, "dev": 10_000, "test": 20_000}
SEEDS = 1000
"""Games of each fold."""


class TextWorldExpressKwargs(EnvironmentKwargs):
    """Which game, and how large."""

    game: Literal["coin", "mapreader", "twc", "cookingworld", "arithmetic", "sorting", "simonsays", "peckingorder"] = (
        Field("coin", description="The game.")
    )
    options: dict[str, int] = Field(
        default_factory=dict,
        description='The game\'s own parameters, such as {"numLocations": 5}; a wrong name is answered with the list.',
    )
    max_turns: int = Field(50, ge=1, le=100_000, description="The episode is truncated after this many steps.")


class Told(TypedDict):
    """The engine's answer about a state, as far as it is read here."""

    observation: str
    validActions: list[str]


class TextWorldExpress(JavaEnvironment):
    """TextWorld-Express: coin, mapreader, twc, cookingworld, arithmetic, sorting, simonsays, peckingorder. Seeds 0 to
    999 go through the games of the official fold."""

    Kwargs = TextWorldExpressKwargs
    engine = Engine("textworld_express", "textworld-express.jar", "textworldexpress.runtime.PythonInterface")
    prompt_template = "textworld/v1"
    requires = ("textworld_express",)
    extra = "textworld-express"
    examples = ({"game": "coin"}, {"game": "cookingworld"}, {"game": "mapreader"}, {"game": "twc"})
    kwargs: TextWorldExpressKwargs

    def reset(self, seed: int, split: str) -> Observation:
        self._game = self.engine.kept_game(self._size) or self._loaded()
        first = self.game("generateNewGameJSON", FIRST_SEED[split] + seed % SEEDS, split, False)
        self._task = " ".join(str(self.game("getTaskDescription")).split())
        self._score = 0.0
        return self._observe(json.loads(first))

    def step(self, action: str) -> Outcome:
        valid = action in self._actions
        told = json.loads(self.game("stepJSON", action))
        reward, self._score = float(told["score"]) - self._score, float(told["score"])
        won = bool(told["tasksuccess"])
        return Outcome(
            observation=self._observe(told),
            reward=reward,
            score=self._score,
            won=won,
            terminated=won or bool(told["taskfailure"]),
            action_valid=valid,
        )

    def leave(self, game: Game) -> None:
        """A later session of this size takes it: loading one costs 40 ms, and the engine opens four files for it that
        it leaves to Java's garbage collection."""
        game.keep(self._size)

    @property
    def _size(self) -> str:
        return json.dumps([self.kwargs.game, self.kwargs.options], sort_keys=True)

    def _loaded(self) -> Game:
        game = self.engine.new_game()
        options = ",".join(f"{name}={value}" for name, value in sorted(self.kwargs.options.items()))
        if refused := game("load", self.kwargs.game, options):
            game.close()
            raise KwargsError(f"options: {refused}")
        return game

    def _observe(self, told: Told) -> Observation:
        self._actions = tuple(sorted(set(told["validActions"])))
        return Observation(text=told["observation"].strip(), task=self._task, admissible_actions=self._actions)
