"""Third parties' parts of the Gymnasium adapter: modules, nested options, masks, and what has no words."""

import io
import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from gigpo.env.environment import CostClass, KwargsError
from services.env.environments.gymnasium_adapter import GymnasiumAdapter, import_failure
from services.env.environments.gymnasium_text import rendered_text, value_text
from services.env.workers.registry import Registry, valid_kwargs
from tests.documents import ROOT, code_blocks

MODULE = """
import gymnasium
from gymnasium import spaces


class Doors(gymnasium.Env):
    observation_space = spaces.Discrete(9)
    action_space = spaces.Discrete(3, start=1)

    def __init__(self, doors={}, names=()):
        self.doors, self.names = doors, names

    def reset(self, *, seed=None, options=None):
        return 0, {"action_mask": [1, 0, 1]}

    def step(self, action):
        done = bool(self.doors["right"][action - 1])
        return action, 0.0, done, False, {"action_mask": [0, 0, 0], "is_success": done}


gymnasium.register("Doors-v0", entry_point=Doors)
"""


class Shown(gymnasium.Env[Any, int]):
    """Shows what it is made with."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: spaces.Space[Any], seen: Any, action_space: spaces.Space[Any] | None = None) -> None:
        self.observation_space, self.seen = space, seen
        if action_space is not None:
            self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.seen, {}


@pytest.fixture
def doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that registers Doors-v0 when it is imported."""
    (tmp_path / "doors_of_others.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "doors_of_others"
    sys.modules.pop("doors_of_others", None)
    gymnasium.registry.pop("Doors-v0", None)
    import_failure.cache_clear()


@pytest.fixture
def shown() -> Iterator[Any]:
    """Registers an environment that shows a value of a space."""
    gymnasium.registry.pop("Shown-v0", None)

    def register(*made: Any) -> None:
        gymnasium.register("Shown-v0", entry_point=lambda: Shown(*made))

    yield register
    gymnasium.registry.pop("Shown-v0", None)


def adapter(kwargs: dict[str, Any], modules: Any = ()) -> GymnasiumAdapter:
    """Make it as a worker does, with the operator's modules."""
    name = f"{GymnasiumAdapter.__module__}:GymnasiumAdapter"
    found = Registry({"gymnasium": name}, {"gymnasium": {"modules": modules}} if modules else {}).find("gymnasium")
    made = found(valid_kwargs(found, json.dumps(kwargs)))
    assert isinstance(made, GymnasiumAdapter)
    return made


@pytest.mark.parametrize("name", ["doors_of_others:Doors-v0", "Doors-v0"])
def test_an_id_of_a_module_that_the_operator_names_is_opened(doors: str, name: str) -> None:
    """openai/gym 1344 and 2815: the id exists once its module is imported."""
    env = adapter({"id": name}, [doors])
    assert (env.reset(0, "train").text, env._task) == ("0", "play Doors-v0")
    assert (env.capabilities.cost_class, GymnasiumAdapter.capabilities.cost_class) == (
        CostClass.MODERATE,  # other people's code has workers of its own
        CostClass.LIGHT,
    )


def test_a_job_imports_no_module_of_its_own_choice(doors: str) -> None:
    with pytest.raises(KwargsError, match=r"id: doors_of_others is not one of the modules .*\"modules\": \[\"doors"):
        adapter({"id": f"{doors}:Doors-v0"}, ["minigrid"])
    assert doors not in sys.modules
    with pytest.raises(KwargsError, match=r"id: Environment `Doors` doesn't exist.*the operator names the modules"):
        adapter({"id": "Doors-v0"})


@pytest.mark.parametrize(
    ("body", "why"), [("import no_such_thing", "no_such_thing"), ("raise SystemExit(3)", "SystemExit")]
)
def test_a_module_that_cannot_be_imported_is_named_and_harms_no_other_id(doors: str, body: str, why: str) -> None:
    (Path(sys.path[0]) / "broken_of_others.py").write_text(body)
    with pytest.raises(KwargsError, match=f"id: broken_of_others cannot be imported: .*{why}"):
        adapter({"id": "broken_of_others:Doors-v0"}, ["broken_of_others"])
    with pytest.raises(KwargsError, match=f"Doors.*broken_of_others cannot be imported: .*{why}"):
        adapter({"id": "Doors-v0"}, ["broken_of_others"])
    assert adapter({"id": "Doors-v0"}, ["broken_of_others", doors]).reset(0, "train").text == "0"


@pytest.mark.parametrize("modules", ["minigrid", [1]])
def test_modules_of_the_operator_are_a_list_of_names(modules: Any) -> None:
    with pytest.raises(KwargsError, match="options of the operator: modules: want a list of names"):
        adapter({"id": "FrozenLake-v1"}, modules)


def test_options_may_be_nested() -> None:
    lake = adapter({"id": "FrozenLake-v1", "options": {"desc": ["SF", "FG"], "is_slippery": False}})
    assert lake.reset(0, "train").text.splitlines()[:2] == ["SF", "FG"]
    assert [lake.step(action).won for action in ("down", "right")] == [False, True]


def test_options_that_the_environment_refuses_are_the_submitters_mistake() -> None:
    with pytest.raises(KwargsError, match=r"id, options: FrozenLake-v1 cannot be made: .*7x7"):
        adapter({"id": "FrozenLake-v1", "options": {"map_name": "7x7"}})


def test_masked_actions_are_invalid_and_success_is_won(doors: str) -> None:
    options = {"doors": {"right": [0, 1, 1]}}
    env = adapter({"id": "Doors-v0", "options": options, "action_names": ["one", "two", "three"]}, [doors])
    first = env.reset(0, "train")
    assert first.admissible_actions == ("one", "three")
    for masked in ("two", "2"):
        assert (env.step(masked).action_valid, env.step(masked).observation) == (False, first)
    after = env.step("1")
    assert (after.won, after.observation.admissible_actions) == (False, ("one", "two", "three"))  # no mask at all
    after = env.step("three")
    assert (after.won, after.terminated) == (True, True)


def test_a_taxi_offers_what_changes_something() -> None:
    taxi = adapter({"id": "Taxi-v4"})
    first = taxi.reset(0, "train")
    assert {"pickup", "dropoff"}.isdisjoint(first.admissible_actions)
    assert {"north", "south"} & set(first.admissible_actions)


def test_a_mask_of_another_length_is_a_fault_that_says_so(doors: str) -> None:
    env = adapter({"id": "Doors-v0"}, [doors])
    with pytest.raises(TypeError, match=r"info\['action_mask'\]: want 3 values, got 2"):
        env._unmasked({"action_mask": [1, 1]})


PICTURE = spaces.Box(0, 255, (7, 7, 3), np.uint8)
GREY = spaces.Box(0, 255, (84, 84), np.uint8)
MANY = spaces.Box(-1, 1, (1001,))
BOARD = spaces.Box(0, 9, (2, 2), np.uint8)


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (PICTURE, r"the observation: pixels of shape \(7, 7, 3\)"),
        (GREY, r"pixels of shape \(84, 84\)"),
        (MANY, "1001 numbers, at most 1000 can be read"),
        (spaces.Dict(screen=PICTURE), r"screen: pixels of shape"),
        (spaces.Dict(a=spaces.Tuple((PICTURE, GREY))), r"a\[0\]: pixels .*; a\[1\]: pixels"),
    ],
)
def test_a_space_that_has_no_words_is_refused_with_what_to_write_instead(shown: Any, space: Any, reason: str) -> None:
    shown(space, space.sample())
    with pytest.raises(KwargsError, match=rf"id: Shown-v0 shows .*{reason}.*write an environment that does so"):
        adapter({"id": "Shown-v0"})


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-2, 2, (1,)),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3))),
        spaces.Dict(a=spaces.Discrete(2)),
    ],
)
def test_actions_that_have_no_words_are_refused_with_what_to_write_instead(shown: Any, space: Any) -> None:
    shown(spaces.Discrete(2), 1, space)
    with pytest.raises(KwargsError, match=r"id: want discrete or text actions.*must be made from words: write an env"):
        adapter({"id": "Shown-v0"})


def test_a_picture_beside_words_is_left_out_and_the_user_is_told(shown: Any) -> None:
    space = spaces.Dict(image=PICTURE, mission=spaces.Text(20), board=BOARD)
    shown(space, {"image": PICTURE.sample(), "mission": "go home", "board": np.array([[1, 2], [3, 4]], np.uint8)})
    env = adapter({"id": "Shown-v0"})
    assert env.reset(0, "train").text.splitlines() == ["mission: go home", "board: 1, 2", "3, 4"]
    assert env.warnings() == ["image: pixels of shape (7, 7, 3) is not shown, because agents read text"]


def test_an_observation_that_is_none_is_a_fault() -> None:
    with pytest.raises(TypeError, match="observation: want a value, got None"):
        value_text(None)


def test_a_board_may_be_a_text_a_file_or_lines_and_nothing_else() -> None:
    assert rendered_text("ab\ncd") == rendered_text(io.StringIO("ab\ncd")) == rendered_text(["ab", "cd"]) == "ab\ncd"
    for wrong in (None, b"ab", [], [1]):
        with pytest.raises(TypeError, match="render: want a text in the mode ansi"):
            rendered_text(wrong)


@pytest.mark.skipif(find_spec("minigrid") is None, reason="the extra minigrid is not installed")
def test_a_real_package_is_opened_by_its_module() -> None:
    env = adapter({"id": "minigrid:MiniGrid-Empty-5x5-v0"}, ["minigrid"])
    seen = env.reset(0, "train")
    assert seen.text.splitlines() == ["direction: 0", "mission: get to the green goal square"]
    assert env.warnings() == ["image: pixels of shape (7, 7, 3) is not shown, because agents read text"]


def test_the_wrapper_of_the_page_gives_words_to_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "docs/environments/gymnasium.md"
    (block,) = (block for block in code_blocks(page, (ROOT / page).read_text("utf-8")) if block.language == "python")
    (tmp_path / "pendulum_in_words.py").write_text(block.code)
    monkeypatch.syspath_prepend(tmp_path)
    env = adapter(
        {"id": "pendulum_in_words:PendulumInWords-v0", "action_names": ["left", "rest", "right"]}, ["pendulum_in_words"]
    )
    try:
        assert len(env.reset(0, "train").text.split(", ")) == 3
        assert env.step("left").reward < 0
        assert not env.step("up").action_valid
    finally:
        gymnasium.registry.pop("PendulumInWords-v0", None)
        sys.modules.pop("pendulum_in_words", None)
