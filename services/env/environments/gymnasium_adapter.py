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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

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
from gigpo.env.progress import allow_silence
from services.env.environments.gymnasium_text import NoWordsError, left_out, rendered_text, value_text
from services.env.environments.splits import reset_within

if TYPE_CHECKING:
    import gymnasium
IMPORT_S = 60.0
"""A module may take so long to import, on a busy machine."""
OWN_ENVIRONMENT = "write an environment that does so (docs/environments/gymnasium.md#other-spaces)"


@dataclass(frozen=True)
class Known:
    """Facts about an environment that Gymnasium does not know. `won`: from the reward that came with termination."""

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
    """Settings of the adapter."""

    id: str = Field(
        pattern=r"^([\w.]+:)?[\w./-]+$",
        description="A registered Gymnasium id, such as FrozenLake-v1, or module:id; the operator allows the module.",
    )
    options: dict[str, JsonValue] = Field({}, description="Passed on to gymnasium.make.")
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


@cache
def import_failure(module: str) -> str:
    """Import a module that the operator named, which registers its environments; why it cannot be, empty: it can."""
    try:
        with allow_silence(IMPORT_S):
            import_module(module)
    except BaseException as error:  # noqa: BLE001 - also SystemExit: scripts are imported too
        return f"{module} cannot be imported: {error!r}"
    return ""


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

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Class a subclass with the operator's modules as moderate in cost, so that it has workers of its own: what the
        modules do then harms no other environment."""
        super().__init_subclass__(**kwargs)
        if cls.options.get("modules"):
            cls.capabilities = Capabilities(cost_class=CostClass.MODERATE)

    def __init__(self, kwargs: GymnasiumKwargs) -> None:
        super().__init__(kwargs)
        self._module, _, self._name = kwargs.id.rpartition(":")
        self._env, self._has_board = self._make()
        self._map: list[str] = []
        """FrozenLake's, where it is drawn for the task."""
        self._left_out = [] if self._has_board else self._silent_parts()
        known = KNOWN.get(self._name.rpartition("/")[2].partition("-")[0])
        self._task = known.task if known else f"play {self._name}"
        self._known = known
        self._actions = self._named_actions(known)

    @property
    def deterministic(self) -> bool:
        """The value of the environment's registration."""
        return self._env.spec is None or not self._env.spec.nondeterministic

    def reset(self, seed: int, split: str) -> Observation:
        def start(number: int) -> str:
            if self.kwargs.random_map:
                self._env.close()
                self._map = drawn_map(self.kwargs.random_map, number)
                self._env, _ = self._make(desc=self._map)
            seen, info = self._env.reset(seed=number)
            self._seen = self._observation(seen, info)
            self._score = 0.0
            return f"{self._name} {self._seen.text}"

        reset_within(split, seed, start)
        return self._seen

    def step(self, action: str) -> Outcome:
        action = action.strip()
        if action in self._actions and self._actions[action] in self._allowed:
            chosen: int | str = self._actions[action]
        elif not self._actions and self._env.action_space.contains(action):
            chosen = action
        else:
            return Outcome(observation=self._seen, action_valid=False)
        seen, reward, terminated, truncated, info = self._env.step(chosen)
        self._seen = self._observation(seen, info)
        self._score += float(reward)
        return Outcome(
            observation=self._seen,
            reward=float(reward),
            won=self._won(float(reward), info, terminated=bool(terminated), truncated=bool(truncated)),
            terminated=bool(terminated),
            truncated=bool(truncated),
            action_valid=True,
        )

    def state(self) -> object | None:
        """The state number of the tabular environments; the others are told apart by their history."""
        number = getattr(self._env.unwrapped, "s", None)
        return None if number is None else ("s", int(number), *self._map)

    def warnings(self) -> list[str]:
        """The parts of the observation that are not shown."""
        return [f"{part} is not shown, because agents read text" for part in self._left_out]

    def close(self) -> None:
        self._env.close()

    def _won(self, reward: float, info: Mapping[str, Any], *, terminated: bool, truncated: bool) -> bool:
        """Decide for unknown environments: by their own `is_success`, or by whether the score at the end reaches what
        Gymnasium's registration calls solved. Without either nothing is won."""
        if self._known:
            return terminated and self._known.won(reward)
        if "is_success" in info:
            return bool(info["is_success"])
        threshold = self._env.spec.reward_threshold if self._env.spec else None
        return (terminated or truncated) and threshold is not None and self._score >= threshold

    def _make(self, **drawn: object) -> "tuple[gymnasium.Env[object, int | str], bool]":
        """The environment, and whether it draws boards of text."""
        import gymnasium

        options: dict[str, Any] = {**self.kwargs.options, **drawn}
        failures = self._import_modules()
        try:
            entry = gymnasium.spec(self._name).entry_point
            creator = gymnasium.envs.registration.load_env_creator(entry) if isinstance(entry, str) else entry
            metadata = getattr(creator, "metadata", None)  # a wrapper's class has a property there
            has_board = isinstance(metadata, Mapping) and "ansi" in metadata.get("render_modes", ())
            if has_board:
                options["render_mode"] = "ansi"
            made = gymnasium.make(self._name, disable_env_checker=True, **options)
        except gymnasium.error.UnregisteredEnv as error:
            other = "; the operator names the modules of other packages: options.modules of gymnasium"
            raise KwargsError(f"id: {error}{''.join(f'; {failure}' for failure in failures) or other}") from error
        except gymnasium.error.Error as error:
            raise KwargsError(f"id: {error}") from error
        except Exception as error:  # whatever its code makes of the options
            raise KwargsError(f"id, options: {self._name} cannot be made: {error!r}") from error
        if hasattr(made.unwrapped, "P") and not drawn:
            made.unwrapped.P = transitions(self._name, json.dumps(self.kwargs.options, sort_keys=True))
        return made, has_board

    def _import_modules(self) -> list[str]:
        """Import what the operator named, and nothing else; why some cannot be. KwargsError: not the operator's, or
        the one that is asked for cannot be imported."""
        modules = self.options.get("modules", [])
        if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
            raise KwargsError(f"options of the operator: modules: want a list of names, got {modules!r:.80}")
        if self._module and self._module not in modules:
            allow = f'ENV_SERVICE_OPTIONS=\'{{"gymnasium": {{"modules": ["{self._module}"]}}}}\''
            raise KwargsError(f"id: {self._module} is not one of the modules that the operator allows: {allow}")
        failures = {module: import_failure(module) for module in map(str, modules)}
        if self._module and failures[self._module]:
            raise KwargsError(f"id: {failures[self._module]}")
        return [failure for failure in failures.values() if failure]

    def _silent_parts(self) -> list[str]:
        """The parts of an observation that are not shown. KwargsError: there are no others."""
        space = getattr(self._env, "observation_space", None)
        try:
            return left_out(space) if space is not None else []
        except NoWordsError as error:
            wanted = f"want observations that words can say; {OWN_ENVIRONMENT}"
            raise KwargsError(f"id: {self._name} shows {error}; {wanted}") from error

    def _named_actions(self, known: Known | None) -> dict[str, int]:
        """Word or number -> action; empty for text actions. KwargsError: neither discrete nor text."""
        from gymnasium import spaces

        space = self._env.action_space
        if isinstance(space, spaces.Text):
            return {}
        if not isinstance(space, spaces.Discrete):
            raise KwargsError(
                f"id: want discrete or text actions, {self._name} has {space}; its actions must be made from words: "
                f"{OWN_ENVIRONMENT}"
            )
        numbers = range(int(space.start), int(space.start + space.n))
        names = self.kwargs.action_names or (known.actions if known else ())
        if names and len(names) != len(numbers):
            raise KwargsError(f"action_names: want {len(numbers)}, got {len(names)}")
        return {str(number): number for number in numbers} | dict(zip(names, numbers, strict=False))

    def _observation(self, seen: object, info: Mapping[str, Any]) -> Observation:
        text = rendered_text(self._env.render()) if self._has_board else value_text(seen)
        self._allowed = self._unmasked(info)
        first = {number: word for word, number in self._actions.items()}  # a name comes after its number and wins
        actions = tuple(word for number, word in first.items() if number in self._allowed)
        return Observation(text=text, task=self._task, admissible_actions=actions)

    def _unmasked(self, info: Mapping[str, Any]) -> set[int]:
        """The actions that `action_mask` allows; all of them where there is none, or it allows nothing. TypeError: it
        has another length than the space of actions."""
        numbers = sorted(set(self._actions.values()))
        mask = info.get("action_mask")
        if mask is None or not numbers:
            return set(numbers)
        if len(mask) != len(numbers):
            raise TypeError(f"info['action_mask']: want {len(numbers)} values, got {len(mask)}")
        return {number for number, allowed in zip(numbers, mask, strict=True) if allowed} or set(numbers)
