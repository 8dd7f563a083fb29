"""TextWorld: generated text adventures as compiled .z8 games (textworld, an extra; its interpreter is under GPL-2).

Transcript (game coin_collector, level 3, test, seed 0; from the third room on):

    -= Closet =-  You find yourself in a closet. ... You need an unblocked exit? You should try going west.
    go west       -= Bedroom =-  You've just shown up in a bedroom. ... There is a coin on the floor.
    take coin     You pick up the coin from the ground. ...
"""

import functools
import re
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, model_validator

from gigpo.env.environment import (
    Capabilities,
    CostClass,
    Environment,
    EnvironmentKwargs,
    KwargsError,
    Observation,
    Outcome,
)
from gigpo.env.progress import report_each
from services.env.environments.splits import task_number

STATUS_LINE = re.compile(r"\n>\s+-= .*$")
"""The interpreter's last line: place, score and number of moves, which would make every text of a game unique."""
SPLITS = ("train", "valid", "test")
MOST_ROOMS = 100
"""Most rooms of a coin_collector that TextWorld 1.7 compiles."""
MAX_DRAWS = 32
"""Games drawn before giving up. One game in four of treasure_hunter at level 10 has no quest of the wanted length."""


class TextWorldKwargs(EnvironmentKwargs):
    """Which game, and how large."""

    game: Literal["coin_collector", "treasure_hunter", "simple", "cooking"] = Field(
        "coin_collector", description="The game's generator, as tw-make knows it (tw-...)."
    )
    level: int = Field(
        5, ge=1, le=233, description="Of coin_collector (1 to 150, 201 to 233) and treasure_hunter (1 to 30)."
    )
    instructions: Literal["goal", "path"] = Field(
        "goal", description="goal: the task names its last step only; path: it tells the whole way (not for cooking)."
    )
    recipe: int = Field(1, ge=1, le=5, description="Of cooking: ingredients in the recipe.")
    take: int = Field(1, ge=0, le=5, description="Of cooking: ingredients that must be found; at most recipe.")
    go: Literal[1, 6, 9, 12] = Field(1, description="Of cooking: locations.")
    skills: tuple[Literal["open", "cook", "cut", "drop"], ...] = Field(
        (), description="Of cooking: containers must be opened, food cooked, food cut, the inventory is limited."
    )
    max_turns: int = Field(50, ge=1, le=100_000, description="The episode is truncated after this many steps.")

    @model_validator(mode="after")
    def _sizes_fit(self) -> "TextWorldKwargs":
        if self.game == "cooking" and self.take > self.recipe:
            raise ValueError(f"take: want at most recipe ({self.recipe}), got {self.take}")
        if self.game == "treasure_hunter" and self.level > 30:
            raise ValueError(f"level: want at most 30 for treasure_hunter, got {self.level}")
        rooms = ((self.level - 1) // 100 + 1) * ((self.level - 1) % 100 + 1)
        if self.game == "coin_collector" and rooms > MOST_ROOMS:
            raise ValueError(
                f"level: want at most {MOST_ROOMS} rooms, which are levels 1 to 150 and 201 to 233, got {self.level}"
            )
        return self

    def settings(self, seed: int, split: str) -> dict[str, JsonValue]:
        """Arguments of the game's generator."""
        if self.game == "cooking":
            told: dict[str, JsonValue] = {name: name in self.skills for name in ("open", "cook", "cut", "drop")}
            told |= {"recipe": self.recipe, "take": self.take, "go": self.go, "split": split}
            told["recipe_seed"] = seed if self.take else 0  # the generator shuffles no recipe that is at hand
            return told
        if self.game == "simple":
            goal = "detailed" if self.instructions == "path" else "brief"
            return {"rewards": "dense", "goal": goal, "test": split != "train"}
        return {"level": self.level}


class TextWorld(Environment):
    """TextWorld's generated games: coin collector, treasure hunter, the simple house, cooking. Every seed is a game;
    splits are apart by seed, in cooking by ingredients and places too."""

    Kwargs = TextWorldKwargs
    capabilities = Capabilities(cost_class=CostClass.MODERATE)
    splits = SPLITS
    prompt_template = "textworld/v1"
    requires = ("textworld", "jericho")
    extra = "textworld"
    examples = ({"level": 2}, {"game": "cooking"})
    kwargs: TextWorldKwargs
    _game: Any = None

    def reset(self, seed: int, split: str) -> Observation:
        textworld: Any = import_module("textworld")
        infos = textworld.EnvInfos(
            **dict.fromkeys(("admissible_commands", "description", "facts", "max_score", "objective", "score"), True),
            **dict.fromkeys(("won", "lost"), True),
        )
        story, companion = _story(self.kwargs, seed, split)
        with tempfile.TemporaryDirectory(prefix="textworld-") as folder:  # read once, when the game starts
            path = Path(folder, "game.z8")
            path.write_bytes(story)
            path.with_suffix(".json").write_bytes(companion)
            self._game = textworld.start(str(path), infos)
            self._state = self._game.reset()
        self._task = " ".join(str(self._state.objective).split())
        return self._observe(self._state.description)

    def step(self, action: str) -> Outcome:
        valid, before = action in self._state.admissible_commands, self._score()
        self._state, _, done = self._game.step(action)
        won = bool(self._state.won)
        return Outcome(
            observation=self._observe(self._state.feedback),
            reward=self._score() - before,
            score=self._score(),
            won=won,
            terminated=bool(done) or won or bool(self._state.lost),
            action_valid=valid,
        )

    def state(self) -> object:
        return self._task, self._score(), sorted(str(fact) for fact in self._state.facts)

    def close(self) -> None:
        if self._game is not None:
            self._game.close()
            self._game = None

    def _score(self) -> float:
        """Score from 0 to 1."""
        return float(self._state.score) / max(float(self._state.max_score), 1.0)

    def _observe(self, text: str) -> Observation:
        shown = STATUS_LINE.sub("", text.rstrip()).strip()
        return Observation(text=shown, task=self._task, admissible_actions=tuple(self._state.admissible_commands))


@functools.lru_cache(maxsize=128)
def _story(kwargs: TextWorldKwargs, seed: int, split: str) -> tuple[bytes, bytes]:
    """The compiled game and what is known about it: 0.5 MB, seconds of work. Sessions of a group share one."""
    with tempfile.TemporaryDirectory(prefix="textworld-") as folder:
        path = Path(folder, "game.z8")
        for _ in report_each(_built(kwargs, seed, split, path)):
            pass
        return path.read_bytes(), path.with_suffix(".json").read_bytes()


def _built(kwargs: TextWorldKwargs, seed: int, split: str, path: Path) -> Iterator[str]:
    """Make the game's file, in stages of which each takes about a CPU second. KwargsError: there is no such game."""
    textworld: Any = import_module("textworld")
    yield "interpreter imported"
    generator: Any = import_module("textworld.generator")
    challenges: Any = import_module("textworld.challenges")
    yield "generators imported"
    generator.text_grammar.Grammar()  # remembered by the library
    yield "words read"
    _, make, _ = challenges.CHALLENGES[f"tw-{kwargs.game}"]
    for draw in range(MAX_DRAWS):
        number = task_number(f"{split}/{seed}/{draw}" if draw else f"{split}/{seed}")
        options = textworld.GameOptions()
        options.seeds = number
        options.path = str(path)
        options.grammar.only_last_action = kwargs.instructions == "goal"
        try:
            game = make(kwargs.settings(number, split), options)
        except generator.QuestGenerationError:
            yield "no game of this number"
            continue
        yield "made"
        generator.compile_game(game, options)
        yield "compiled"
        return
    raise KwargsError(f"game, level: none of {MAX_DRAWS} draws is a {kwargs.game} of level {kwargs.level}")
