"""TextArena's games for one player, shown by their last board so that states recur.

Transcript (TowerOfHanoi-v0, seed 0):

    A: [3, 2, 1]  B: []  C: []          [A C]
    A: [3, 2]  B: []  C: [1]            ...

TextArena shows the whole history at each turn. Here the rules are the task, and the observation is what the last turn
showed; the anchor is the last board. Licence of the package textarena: MIT.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from pydantic import Field, JsonValue

from gigpo.env.environment import (
    Capabilities,
    CostClass,
    Environment,
    EnvironmentKwargs,
    KwargsError,
    Observation,
    Outcome,
)
from services.env.environments.splits import reset_within

RULES, ACTION, BOARD = "PROMPT", "PLAYER_ACTION", "GAME_BOARD"
"""Names of TextArena's kinds of observation."""
COUNTED = re.compile(r"\(Move \d+[^)]*\)|\bTurn \d+\b|\d+ (?:turns|moves|guesses) (?:left|remaining)", re.IGNORECASE)
"""Counters in boards, which no anchor may hold."""


class TextArenaKwargs(EnvironmentKwargs):
    """Which game."""

    game: str = Field("TowerOfHanoi-v0", description="Id of a game for one player, such as Mastermind-v0.")
    options: dict[str, JsonValue] = Field({}, description="Handed to textarena.make.")
    won_reward: float = Field(1.0, description="An episode whose reward at the end is at least this is won.")
    max_turns: int = Field(50, ge=1, le=100_000, description="The episode is truncated after this many steps.")


class TextArena(Environment):
    """TextArena's games for one player, such as TowerOfHanoi-v0, Mastermind-v0, 2048-v0, FrozenLake-v0."""

    Kwargs = TextArenaKwargs
    kwargs: TextArenaKwargs
    capabilities = Capabilities(thread_safe=False, cost_class=CostClass.MODERATE)
    requires = ("textarena",)
    extra = "textarena"
    examples = ({}, {"game": "FrozenLake-v0"}, {"game": "Mastermind-v0"})
    example_actions = ("[A C]", "[A B]", "[right]", "[down]", "[1 2 3 4]", "pass")

    def reset(self, seed: int, split: str) -> Observation:
        self._game = self._made()
        self._errors = 0

        def start(number: int) -> str:
            self._game.reset(num_players=1, seed=number)
            shown = self._new()
            self._task = "\n".join(text for kind, text in shown if kind == RULES)
            self._text = self._standing = _said(shown)
            self._anchor = self._board(shown)
            return f"{self._task}\n{self._text}\n{_plain(self._game.state.game_state)!r}"

        try:
            reset_within(split, seed, start)
        except AssertionError as error:
            raise KwargsError(f"game: want one for one player, {self.kwargs.game}: {error}") from error
        return self._observation()

    def step(self, action: str) -> Outcome:
        done, _ = self._game.step(action)
        shown = self._new()
        rewards, info = self._game.close() if done else (None, None)
        reward = float((rewards or {}).get(0, 0.0))
        errors = int(getattr(self._game.state, "error_count", 0))
        invalid = bool((info or {}).get(0, {}).get("invalid_move")) or errors > self._errors
        self._errors = errors
        if invalid:  # the board stands above the complaint
            self._text = "\n".join(part for part in (self._standing, _said(shown)) if part)
        else:
            self._text = self._standing = _said(shown) or self._standing
            self._anchor = self._board(shown)
        won = bool(done) and reward >= self.kwargs.won_reward
        return Outcome(
            observation=self._observation(), reward=reward, won=won, terminated=bool(done), action_valid=not invalid
        )

    def state(self) -> object | None:
        """The game's own state, where it is made of plain values."""
        plain: object = _plain(self._game.state.game_state)
        return plain

    def _made(self) -> Any:
        """The game without TextArena's wrappers, which join texts. KwargsError: there is none, or it lacks files."""
        arena: Any = import_module("textarena")
        name = self.kwargs.game if self.kwargs.game.endswith("-raw") else f"{self.kwargs.game}-raw"
        known: Any = import_module("textarena.envs.registration").ENV_REGISTRY
        if name not in known:
            near = sorted(one.removesuffix("-raw") for one in known if one.endswith("-v0-raw"))
            raise KwargsError(f"game: want one of {', '.join(near)}, got {self.kwargs.game!r}")
        try:
            return arena.make(name, **self.kwargs.options)
        except Exception as error:  # words that it would download, options that it does not have
            said = " ".join(str(error).split())
            raise KwargsError(f"game, options: {self.kwargs.game} cannot be made: {said:.300}") from error

    def _new(self) -> list[tuple[str, str]]:
        """The game's messages since the last call: kind and text."""
        _, seen = self._game.get_observation()
        return [(kind.name, "\n".join(map(str.rstrip, str(text).splitlines())).strip()) for _, text, kind in seen]

    def _board(self, shown: list[tuple[str, str]]) -> str:
        """The last board without counters; without a board all that was said."""
        boards = [text for kind, text in shown if kind == BOARD]
        return COUNTED.sub("", boards[-1] if boards else self._standing).strip()

    def _observation(self) -> Observation:
        return Observation(text=self._text, anchor=self._anchor, task=self._task)


def _said(shown: list[tuple[str, str]]) -> str:
    """All but the rules and the agent's own action."""
    return "\n".join(text for kind, text in shown if kind not in (RULES, ACTION))


def _plain(value: Any) -> Any:
    """A state in plain values; None where part of it has none."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if hasattr(value, "tolist"):
        return value.tolist()
    return value if isinstance(value, str | int | float | bool | None) else str(type(value).__name__)
