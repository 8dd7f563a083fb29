"""Which environments there are, and what an author gets by default."""

import json
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from gigpo.env.environment import Environment, EnvironmentKwargs, KwargsError, Observation, Outcome
from gigpo_core.digest import action_digest
from services.env.workers.episode import Episode, state_key
from services.env.workers.registry import (
    Registry,
    UnavailableError,
    known_environments,
    refused_registrations,
    valid_kwargs,
    valid_split,
)
from services.env.workers.wanted import ContractError


class Coin(Environment):
    """Guess the side of a coin."""

    def reset(self, seed: int, split: str) -> Observation:
        self.side = ("heads", "tails")[seed % 2]
        return Observation(text="heads or tails", admissible_actions=("heads", "tails"))

    def step(self, action: str) -> Outcome:
        won = action == self.side
        return Outcome(observation=Observation(text=f"it shows {self.side}"), reward=won, won=won, terminated=True)


class Elsewhere(Coin):
    """Needs a module that nobody has."""

    requires = ("module_that_nobody_has",)


class InAnExtra(Elsewhere):
    """An extra brings the module."""

    extra = "casino"


class NeedsJava(Coin):
    """Has its modules and lacks a program."""

    @classmethod
    def unavailable_reason(cls) -> str:
        return "no `java` on the PATH"


def coin_episode(seed: int) -> Episode:
    return Episode(Coin(EnvironmentKwargs()), EnvironmentKwargs())


class Spelling(Coin):
    """Takes short names too."""

    def step(self, action: str) -> Outcome:
        said = {"h": "heads", "t": "tails"}.get(action, action)
        return msgspec.structs.replace(super().step(said), executed=said)


class Numbering(Coin):
    """Names its actions by numbers."""

    def step(self, action: str) -> Outcome:
        return msgspec.structs.replace(super().step(action), executed=7)


def test_a_step_has_the_digest_of_the_action_that_was_executed():
    def key(kind: type[Coin], action: str) -> bytes:
        episode = Episode(kind(EnvironmentKwargs()), EnvironmentKwargs())
        episode.reset(0, "train")
        return episode.step(1, action).action_key

    assert key(Coin, "heads") == key(Coin, " heads\n") == key(Spelling, "h") == action_digest("heads")
    assert key(Coin, "h") != key(Coin, "heads")
    with pytest.raises(ContractError, match="executed: want a text, got int 7"):
        key(Numbering, "heads")


def test_the_listing_is_ordered_and_says_what_each_takes():
    entries = Registry(known_environments({"coin": f"{__name__}:Coin"})).entries()
    assert [entry.id for entry in entries] == sorted(entry.id for entry in entries)
    grid = next(entry for entry in entries if entry.id == "grid")
    assert set(json.loads(grid.kwargs_schema_json)["properties"]) >= {"size", "walls", "items", "practice", "max_turns"}
    assert (grid.default_max_turns, grid.splits, grid.unavailable_reason) == (20, ("train", "test"), "")
    assert grid.deterministic
    assert grid.gives_anchors
    assert "fridge" in grid.vocabulary


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("no_such_module:Coin", "cannot be imported"),
        (f"{__name__}:Nothing", "cannot be imported"),
        (f"{__name__}:state_key", "is not an Environment class"),
        (f"{__name__}:Elsewhere", "not installed: module_that_nobody_has"),
        (f"{__name__}:InAnExtra", "not installed: pip install 'gigpo-platform[casino]'"),
        (f"{__name__}:NeedsJava", "not installed: no `java` on the PATH"),
    ],
)
def test_what_cannot_be_opened_is_listed_with_its_reason(reference, reason):
    registry = Registry({"odd": reference})
    assert reason in registry.entries()[0].unavailable_reason
    with pytest.raises(UnavailableError, match=re.escape(reason)):
        registry.find("odd")


def test_the_platforms_own_environments_are_entry_points_of_its_package():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    declared = project["entry-points"]["gigpo.environments"]
    installed = known_environments({})
    assert {name: installed.get(name) for name in declared} == declared, "the package's metadata is old: make install"


def install(folder: Path, package: str, environment: str, value: str) -> None:
    """Write the files that pip leaves behind of a package with one environment."""
    metadata = folder / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[gigpo.environments]\n{environment} = {value}\n")


def test_an_installed_package_brings_its_environment(tmp_path, monkeypatch):
    install(tmp_path, "casino", "coin", f"{__name__}:Coin")
    monkeypatch.syspath_prepend(tmp_path)
    assert Registry(known_environments({})).find("coin") is Coin


def test_an_id_that_two_packages_register_is_refused_unless_the_settings_decide(tmp_path, monkeypatch):
    install(tmp_path, "casino", "coin", f"{__name__}:Coin")
    install(tmp_path, "other_casino", "coin", f"{__name__}:Elsewhere")
    monkeypatch.syspath_prepend(tmp_path)
    assert "coin" not in known_environments({})
    both = f"{__name__}:Coin, {__name__}:Elsewhere"
    assert refused_registrations({}) == {"coin": f"registered twice: {both}; want one class"}
    chosen = {"coin": f"{__name__}:Coin"}
    assert known_environments(chosen)["coin"] == f"{__name__}:Coin"
    assert refused_registrations(chosen) == {}


def test_a_package_that_takes_the_id_of_one_of_ours_does_not_get_it_and_is_named(tmp_path, monkeypatch):
    install(tmp_path, "casino", "grid", f"{__name__}:Coin")
    monkeypatch.syspath_prepend(tmp_path)
    assert known_environments({})["grid"] == "services.env.environments.grid:Grid"
    taken = "its id 'grid' is that of an environment of this project"
    assert refused_registrations({}) == {f"grid ({__name__}:Coin)": taken}
    assert known_environments({"grid": "mine:Grid"})["grid"] == "mine:Grid"


def test_a_class_finds_what_the_operator_set_for_it():
    options = {"coin": {"allowed": ["127.0.0.1:80"]}}
    assert Registry({"coin": f"{__name__}:Coin"}, options).find("coin").options == {"allowed": ["127.0.0.1:80"]}
    assert Registry({"coin": f"{__name__}:Coin"}).find("coin").options == {}


def test_two_ids_of_one_class_have_each_their_own_options():
    references = {"coin": f"{__name__}:Coin", "dime": f"{__name__}:Coin", "cent": f"{__name__}:Coin"}
    registry = Registry(references, {"coin": {"sides": 2}, "dime": {"sides": 3}})
    found = {name: registry.find(name) for name in references}
    assert {name: one.options for name, one in found.items()} == {
        "coin": {"sides": 2},
        "dime": {"sides": 3},
        "cent": {},
    }
    assert Coin.options == {}
    assert [entry.description for entry in registry.entries()] == [Coin.__doc__] * 3
    assert issubclass(found["coin"], Coin)


def test_what_is_not_installed_is_listed_as_fully_as_what_is():
    entry, other = Registry({"a": f"{__name__}:InAnExtra", "b": f"{__name__}:Coin"}).entries()
    assert entry.description == "An extra brings the module."
    assert entry.kwargs_schema_json == other.kwargs_schema_json
    assert (entry.splits, entry.cost_class, entry.deterministic) == (other.splits, 1, True)
    assert (bool(entry.unavailable_reason), bool(other.unavailable_reason)) == (True, False)


def test_an_unknown_id_is_answered_with_the_known_ones():
    with pytest.raises(UnavailableError, match="known: grid"):
        Registry({"grid": "services.env.environments.grid:Grid"}).find("gird")


def test_every_wrong_key_is_named():
    with pytest.raises(KwargsError, match=r"max_turns: .*got 0.*tunrs: "):
        valid_kwargs(Coin, '{"max_turns": 0, "tunrs": 3}')
    assert valid_kwargs(Coin, "").max_turns == 20


def test_an_empty_split_is_the_first():
    assert valid_split(Coin, "") == "train"
    with pytest.raises(KwargsError, match="want one of train, test, got 'dev'"):
        valid_split(Coin, "dev")


def test_an_environment_of_ten_lines_has_anchor_and_state_keys():
    one, other = coin_episode(0), coin_episode(0)
    first, same = one.reset(0, "train"), other.reset(0, "train")
    assert first == same
    assert first.anchor == first.text
    assert (len(first.anchor_key), len(first.state_key)) == (16, 16)
    left, right = one.step(1, "heads"), other.step(1, "tails")
    assert left.observation.anchor_key == right.observation.anchor_key
    assert left.observation.state_key != right.observation.state_key  # no state(): the history tells them apart
    assert (left.reward, left.score, right.reward) == (1.0, 1.0, 0.0)


def test_a_state_key_does_not_depend_on_the_order_of_sets_and_keys():
    names = [f"name{i}" for i in range(50)]
    assert state_key({"a": set(names), "b": 1}) == state_key({"b": 1, "a": set(reversed(names))})
    assert state_key((1, 2)) != state_key((2, 1))
