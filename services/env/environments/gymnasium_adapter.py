"""Any Gymnasium environment with discrete or text actions, shown as text.

Colour codes of boards rendered as "ansi" are replaced by words below the board, and lines that name the last action are
dropped, so that a state has the same text however it was reached.

Transcript (id FrozenLake-v1, options {"is_slippery": false}):

    SFFF
    FHFH
    FFFH
    HFFG
    red: S, line 1, column 1        right
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from gigpo.env.environment import Environment, EnvironmentKwargs, KwargsError, Observation, Outcome
from services.env.environments.splits import reset_within

if TYPE_CHECKING:
    import gymnasium

COLOUR_CODE = re.compile(r"\x1b\[([\d;]*)m")
COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
LAST_ACTION = re.compile(r"\s*\([A-Za-z]+\)\s*")


@dataclass(frozen=True)
class Known:
    """What Gymnasium does not tell about an environment. `won`: from the reward that came with termination."""

    task: str
    actions: tuple[str, ...]
    won: Callable[[float], bool]


KNOWN: Mapping[str, Known] = {
    "FrozenLake": Known(
        "walk from S to G over frozen F, not into a hole H", ("left", "down", "right", "up"), lambda reward: reward > 0
    ),
    "Taxi": Known(
        "drive the taxi (yellow, with a passenger green) to the passenger (blue), pick up, drive to the destination "
        "(magenta), drop off",
        ("south", "north", "east", "west", "pickup", "dropoff"),
        lambda reward: reward > 0,
    ),
    "CliffWalking": Known("walk to T, not over the cliff C", ("up", "right", "down", "left"), lambda reward: True),
    "Blackjack": Known("get closer to 21 than the dealer", ("stick", "hit"), lambda reward: reward > 0),
}


class GymnasiumKwargs(EnvironmentKwargs):
    """What the adapter can be told."""

    id: str = Field(pattern=r"^[\w./-]+$", description="A registered Gymnasium id, such as FrozenLake-v1.")
    options: dict[str, bool | int | float | str | None] = Field({}, description="Passed on to gymnasium.make.")
    random_map: int = Field(
        0,
        ge=0,
        le=64,
        description="FrozenLake only: side of a map with a safe way, drawn for each task; 0: the map of `options`.",
    )
    action_names: tuple[str, ...] = Field((), description="Words for the actions 0, 1, ...; numbers always work.")
    max_turns: int = Field(100, ge=1, le=100_000, description="The episode is truncated after this many steps.")

    @model_validator(mode="after")
    def _a_lake_to_draw(self) -> Self:
        if self.random_map and not (self.random_map >= 3 and "FrozenLake" in self.id):
            raise ValueError(f"random_map: want 0, or 3 or more for FrozenLake, got {self.random_map} for {self.id}")
        return self

    @model_validator(mode="after")
    def _shown_as_text(self) -> Self:
        if "render_mode" in self.options:
            raise ValueError("options: render_mode cannot be set, because observations are text")
        return self


def board_text(rendered: str) -> str:
    """A rendered board without colour codes and last action; coloured places are named below it, lines and columns
    counted from 1."""
    lines = [line for line in rendered.split("\n") if not LAST_ACTION.fullmatch(line)]
    while lines and not lines[0].strip():
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    marks: list[str] = []
    for number, line in enumerate(lines, start=1):
        plain = ""
        colours: list[str] = []
        for position, part in enumerate(COLOUR_CODE.split(line)):
            if position % 2:  # codes stand between texts
                colours = coloured(colours, part)
            elif part:
                where = f"{part.strip() or 'empty'}, line {number}, column {len(plain) + 1}"
                marks.extend(f"{colour}: {where}" for colour in colours)
                plain += part
        lines[number - 1] = plain.rstrip()
    return "\n".join([*lines, *marks])


def coloured(colours: list[str], codes: str) -> list[str]:
    """The colours that hold after a code such as "34;1": one more, or none after 0."""
    numbers = [int(code) for code in codes.split(";") if code]
    if not any(numbers):
        return []
    named = (COLOURS[code % 10] for code in numbers if code // 10 in (3, 4, 9, 10) and code % 10 < 8)
    return [*colours, next(named, "marked")]


def value_text(value: object) -> str:
    """An observation without a board, in words and numbers."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {value_text(part)}" for name, part in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(value_text(part) for part in value)
    if hasattr(value, "tolist"):
        plain = value.tolist()
        return value_text(plain) if isinstance(plain, list) else value_text(plain if plain == plain else "nan")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def drawn_map(size: int, number: int) -> list[str]:
    """A map for FrozenLake that has a safe way from start to goal."""
    from gymnasium.envs.toy_text.frozen_lake import generate_random_map

    return generate_random_map(size=size, seed=number)


@lru_cache(maxsize=16)
def transitions(environment_id: str, options_json: str) -> Any:
    """The table that a tabular environment builds for itself, kept once: sessions read it, half a megabyte for Taxi."""
    import gymnasium

    made = gymnasium.make(environment_id, disable_env_checker=True, **json.loads(options_json))
    try:
        return getattr(made.unwrapped, "P", None)
    finally:
        made.close()


class GymnasiumAdapter(Environment):
    """Any installed Gymnasium environment with discrete or text actions: FrozenLake-v1, Taxi-v4, CliffWalking-v1."""

    Kwargs = GymnasiumKwargs
    kwargs: GymnasiumKwargs
    prompt_template = "gymnasium/v1"
    requires = ("gymnasium",)
    examples = (
        {"id": "FrozenLake-v1", "random_map": 4, "options": {"is_slippery": False}},
        {"id": "Taxi-v4"},
        {"id": "CliffWalking-v1"},
    )

    def __init__(self, kwargs: GymnasiumKwargs) -> None:
        super().__init__(kwargs)
        self._env, self._has_board = self._make()
        self._map: list[str] = []
        """FrozenLake's, where it is drawn for the task."""
        known = KNOWN.get(kwargs.id.rpartition("/")[2].partition("-")[0])
        self._task = known.task if known else f"play {kwargs.id}"
        self._known = known
        self._actions = self._named_actions(known)

    @property
    def deterministic(self) -> bool:
        """As the environment's registration says."""
        return self._env.spec is None or not self._env.spec.nondeterministic

    def reset(self, seed: int, split: str) -> Observation:
        def start(number: int) -> str:
            if self.kwargs.random_map:
                self._env.close()
                self._map = drawn_map(self.kwargs.random_map, number)
                self._env, _ = self._make(desc=self._map)
            seen, _ = self._env.reset(seed=number)
            self._seen = self._observation(seen)
            self._score = 0.0
            return f"{self.kwargs.id} {self._seen.text}"

        reset_within(split, seed, start)
        return self._seen

    def step(self, action: str) -> Outcome:
        action = action.strip()
        if action in self._actions:
            chosen: int | str = self._actions[action]
        elif not self._actions and self._env.action_space.contains(action):
            chosen = action
        else:
            return Outcome(observation=self._seen, action_valid=False)
        seen, reward, terminated, truncated, _ = self._env.step(chosen)
        self._seen = self._observation(seen)
        self._score += float(reward)
        return Outcome(
            observation=self._seen,
            reward=float(reward),
            won=self._won(float(reward), terminated=bool(terminated), truncated=bool(truncated)),
            terminated=bool(terminated),
            truncated=bool(truncated),
            action_valid=True,
        )

    def state(self) -> object | None:
        """The state number of the tabular environments; the others are told apart by their history."""
        number = getattr(self._env.unwrapped, "s", None)
        return None if number is None else ("s", int(number), *self._map)

    def close(self) -> None:
        self._env.close()

    def _won(self, reward: float, *, terminated: bool, truncated: bool) -> bool:
        """For environments that we do not know: whether the score at the end reaches what Gymnasium's registration
        calls solved. Without such a threshold nothing is won."""
        if self._known:
            return terminated and self._known.won(reward)
        threshold = self._env.spec.reward_threshold if self._env.spec else None
        return (terminated or truncated) and threshold is not None and self._score >= threshold

    def _make(self, **drawn: object) -> "tuple[gymnasium.Env[object, int | str], bool]":
        """The environment, and whether it draws boards of text."""
        import gymnasium

        options: dict[str, Any] = {**self.kwargs.options, **drawn}
        try:
            entry = gymnasium.spec(self.kwargs.id).entry_point
            creator = gymnasium.envs.registration.load_env_creator(entry) if isinstance(entry, str) else entry
            has_board = "ansi" in getattr(creator, "metadata", {}).get("render_modes", ())
            if has_board:
                options["render_mode"] = "ansi"
            made = gymnasium.make(self.kwargs.id, disable_env_checker=True, **options)
        except gymnasium.error.Error as error:
            raise KwargsError(f"id: {error}") from error
        except (TypeError, ValueError, KeyError, ImportError) as error:
            raise KwargsError(f"id, options: {self.kwargs.id} cannot be made: {error!r}") from error
        if hasattr(made.unwrapped, "P") and not drawn:
            made.unwrapped.P = transitions(self.kwargs.id, json.dumps(self.kwargs.options, sort_keys=True))
        return made, has_board

    def _named_actions(self, known: Known | None) -> dict[str, int]:
        """Word or number -> action; empty for text actions. KwargsError: neither discrete nor text."""
        from gymnasium import spaces

        space = self._env.action_space
        if isinstance(space, spaces.Text):
            return {}
        if not isinstance(space, spaces.Discrete):
            raise KwargsError(f"id: want discrete or text actions, {self.kwargs.id} has {space}")
        numbers = range(int(space.start), int(space.start + space.n))
        names = self.kwargs.action_names or (known.actions if known else ())
        if names and len(names) != len(numbers):
            raise KwargsError(f"action_names: want {len(numbers)}, got {len(names)}")
        return {str(number): number for number in numbers} | dict(zip(names, numbers, strict=False))

    def _observation(self, seen: object) -> Observation:
        rendered = self._env.render() if self._has_board else None
        text = board_text(rendered) if isinstance(rendered, str) else value_text(seen)
        first = {number: word for word, number in self._actions.items()}  # a name comes after its number and wins
        return Observation(text=text, task=self._task, admissible_actions=tuple(first.values()))
