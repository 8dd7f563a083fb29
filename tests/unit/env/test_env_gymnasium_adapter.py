"""Gymnasium environments as text."""

from typing import Any

import gymnasium
import pytest
from gymnasium import spaces
from pydantic import ValidationError

from gigpo.env.environment import KwargsError
from services.env.environments.gymnasium_adapter import GymnasiumAdapter, GymnasiumKwargs
from services.env.environments.gymnasium_text import board_text, value_text
from services.env.workers.episode import Episode


class Echo(gymnasium.Env[str, str]):
    """Says back what it was told; ends at "bye"; a limit of its own."""

    observation_space = spaces.Text(100)
    action_space = spaces.Text(10, charset="abcdefghijklmnopqrstuvwxyz ")

    def __init__(self, limit: int = 100) -> None:
        self.turns, self.limit = 0, limit

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        return f"seed {seed}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.turns += 1
        return action.upper(), 0.5, action == "bye", self.turns >= self.limit, {}


@pytest.fixture(autouse=True)
def _echo_is_registered():
    gymnasium.register("Echo-v0", entry_point=Echo)
    gymnasium.register("EchoTwo-v0", entry_point=Echo, nondeterministic=True)
    gymnasium.register("EchoGoal-v0", entry_point=Echo, reward_threshold=1.0)
    yield
    for name in ("Echo-v0", "EchoTwo-v0", "EchoGoal-v0"):
        del gymnasium.registry[name]


def adapter(name: str, **kwargs: object) -> GymnasiumAdapter:
    return GymnasiumAdapter(GymnasiumKwargs.model_validate({"id": name, **kwargs}))


def test_the_frozen_lake_is_crossed_by_words_and_by_numbers():
    words = ["down", "down", "right", "right", "down", "right"]
    numbers = ["1", "1", "2", "2", "1", "2"]
    for plan in (words, numbers):
        lake = adapter("FrozenLake-v1", options={"is_slippery": False})
        first = lake.reset(0, "train")
        assert first.text.splitlines() == ["SFFF", "FHFH", "FFFH", "HFFG", "red: S, line 1, column 1"]
        assert first.admissible_actions == ("left", "down", "right", "up")
        outcomes = [lake.step(action) for action in plan]
        assert [outcome.reward for outcome in outcomes] == [0, 0, 0, 0, 0, 1]
        assert [outcome.won for outcome in outcomes] == [False] * 5 + [True]
        assert outcomes[-1].terminated
        assert lake.state() == ("s", 15)


def test_falling_into_a_hole_ends_the_episode_and_is_not_won():
    lake = adapter("FrozenLake-v1", options={"is_slippery": False})
    lake.reset(0, "train")
    lake.step("down")
    outcome = lake.step("right")
    assert (outcome.terminated, outcome.won, outcome.reward) == (True, False, 0.0)


def test_a_state_looks_the_same_whatever_led_to_it():
    lake = adapter("FrozenLake-v1", options={"is_slippery": False})
    start = lake.reset(0, "train")
    assert lake.step("left").observation == start
    assert lake.step("up").observation == start


def test_no_observation_holds_a_colour_code():
    for name in ("FrozenLake-v1", "Taxi-v4", "CliffWalking-v1"):
        seen = adapter(name).reset(1, "train")
        assert "\x1b" not in seen.text
        assert seen.task


def test_two_taxi_states_that_differ_in_colour_only_read_differently():
    taxi = adapter("Taxi-v4")
    texts = {taxi.reset(seed, "train").text for seed in range(200)}
    states = {(taxi.reset(seed, "train"), taxi.state())[1] for seed in range(200)}
    assert len(texts) == len(states)


def test_walking_off_the_cliff_costs_a_hundred_and_goes_on():
    cliff = adapter("CliffWalking-v1")
    cliff.reset(0, "train")
    outcome = cliff.step("right")
    assert (outcome.reward, outcome.terminated) == (-100.0, False)


def test_the_same_seed_gives_the_same_task_and_splits_differ():
    one, other = adapter("Taxi-v4"), adapter("Taxi-v4")
    train, again, test = (
        [taxi.reset(seed, split).text for seed in range(20)]
        for taxi, split in ((one, "train"), (other, "train"), (one, "test"))
    )
    assert train == again
    assert train != test


def test_an_unknown_action_is_invalid_and_changes_nothing():
    lake = adapter("FrozenLake-v1")
    first = lake.reset(0, "train")
    for action in ("", "4", "-1", "jump", "left right"):
        outcome = lake.step(action)
        assert not outcome.action_valid
        assert outcome.observation == first


def test_text_actions_are_passed_on_and_those_outside_the_space_are_invalid():
    echo = adapter("Echo-v0")
    assert echo.reset(3, "train").text.startswith("seed ")
    assert echo.step("hello").observation.text == "HELLO"
    assert not echo.step("much too long for it").action_valid
    assert echo.state() is None


def test_terminated_and_truncated_are_kept_apart():
    echo = adapter("Echo-v0", options={"limit": 2})
    echo.reset(0, "train")
    first, second = echo.step("hi"), echo.step("hi")
    assert (first.terminated, first.truncated) == (False, False)
    assert (second.terminated, second.truncated) == (False, True)
    over = adapter("Echo-v0")
    over.reset(0, "train")
    assert (over.step("bye").terminated, over.step("bye").truncated) == (True, False)


def test_a_score_at_the_end_that_reaches_the_registered_threshold_is_won():
    for name, said, won in (
        ("EchoGoal-v0", ["hi", "bye"], [False, True]),
        ("EchoGoal-v0", ["bye"], [False]),
        ("EchoGoal-v0", ["hi", "hi", "hi"], [False, False, True]),  # truncated
        ("Echo-v0", ["hi", "bye"], [False, False]),
    ):
        echo = adapter(name, options={"limit": 3})
        for _ in range(2):  # the score starts anew with each episode
            echo.reset(0, "train")
            echo._env.unwrapped.turns = 0
            assert [echo.step(words).won for words in said] == won


def test_a_pole_that_falls_is_not_won():
    pole = adapter("CartPole-v1")
    pole.reset(0, "train")
    while not (outcome := pole.step("1")).terminated:
        pass
    assert (outcome.reward, outcome.won) == (1.0, False)


def test_the_way_of_drawing_is_not_the_jobs_to_choose():
    with pytest.raises(ValidationError, match="options: render_mode"):
        GymnasiumKwargs(id="Taxi-v4", options={"render_mode": "human"})


def test_our_own_limit_on_turns_truncates_too():
    kwargs = GymnasiumKwargs(id="CliffWalking-v1", max_turns=2)
    episode = Episode(GymnasiumAdapter(kwargs), kwargs)
    episode.reset(0, "train")
    assert not episode.step(1, "up").truncated
    assert episode.step(1, "up").truncated


def test_a_nondeterministic_registration_is_not_replayed():
    assert adapter("Echo-v0").deterministic
    assert not adapter("EchoTwo-v0").deterministic


def test_names_for_the_actions_can_be_given():
    lake = adapter("FrozenLake-v1", action_names=["west", "south", "east", "north"])
    assert lake.reset(0, "train").admissible_actions == ("west", "south", "east", "north")
    assert lake.step("south").action_valid


@pytest.mark.parametrize(
    ("kwargs", "wanted"),
    [
        ({"id": "Nothing-v1"}, "id"),
        ({"id": "FrozenLake-v1", "options": {"map_nam": "4x4"}}, "map_nam"),
        ({"id": "Pendulum-v1"}, "discrete or text"),
        ({"id": "FrozenLake-v1", "action_names": ["a"]}, "action_names: want 4, got 1"),
    ],
)
def test_what_cannot_be_made_is_refused_with_its_reason(kwargs, wanted):
    with pytest.raises(KwargsError, match=wanted):
        GymnasiumAdapter(GymnasiumKwargs.model_validate(kwargs))


def test_a_board_loses_codes_and_last_action_and_tells_its_marks():
    rendered = "  (Right)\n\x1b[41mS\x1b[0mF\n.\x1b[34;1mR\x1b[0m\x1b[43m \x1b[0m\n\n"
    assert board_text(rendered).splitlines() == [
        "SF",
        ".R",
        "red: S, line 1, column 1",
        "blue: R, line 2, column 2",
        "yellow: empty, line 2, column 3",
    ]


def test_a_place_of_several_colours_has_a_mark_of_each():
    rendered = "|\x1b[35m\x1b[34;1m\x1b[43mB\x1b[0m\x1b[0m\x1b[0m: |"
    assert board_text(rendered).splitlines() == [
        "|B: |",
        *(f"{colour}: B, line 1, column 2" for colour in ("magenta", "blue", "yellow")),
    ]


def test_values_read_as_words_and_numbers():
    assert value_text((14, 10, False)) == "14, 10, False"
    assert value_text({"a": 1.23456, "b": "x"}) == "a: 1.235\nb: x"


def test_a_lake_is_drawn_for_each_task_and_test_lakes_never_train():
    def lakes(split: str) -> set[str]:
        return {adapter("FrozenLake-v1", random_map=5).reset(seed, split).text for seed in range(40)}

    train, test = lakes("train"), lakes("test")
    assert not train & test
    assert min(len(train), len(test)) > 35
    assert lakes("train") == train


def test_every_drawn_lake_is_crossed_by_an_expert():
    for seed in range(20):
        lake = adapter("FrozenLake-v1", random_map=6, options={"is_slippery": False})
        lake.reset(seed, "test")
        for action in safe_way(lake._map):
            outcome = lake.step(action)
        assert (outcome.won, outcome.reward) == (True, 1.0)
        assert lake.state() == ("s", 35, *lake._map)


def safe_way(board: list[str]) -> list[str]:
    """The shortest way over the ice."""
    steps = {"left": (0, -1), "down": (1, 0), "right": (0, 1), "up": (-1, 0)}
    ways: dict[tuple[int, int], list[str]] = {(0, 0): []}
    for cell in (queue := [(0, 0)]):
        for name, (down, right) in steps.items():
            row, column = after = (cell[0] + down, cell[1] + right)
            inside = 0 <= row < len(board) and 0 <= column < len(board)
            if inside and board[row][column] != "H" and after not in ways:
                ways[after] = [*ways[cell], name]
                queue.append(after)
    return ways[len(board) - 1, len(board) - 1]


def test_the_splits_share_no_start_where_there_are_many():
    taxi = adapter("Taxi-v4")
    train, test = ({taxi.reset(seed, split).text for seed in range(300)} for split in ("train", "test"))
    assert not train & test
    assert min(len(train), len(test)) > 40


def test_a_map_with_one_start_serves_both_splits():
    assert adapter("CliffWalking-v1").reset(0, "test") == adapter("CliffWalking-v1").reset(0, "train")


@pytest.mark.parametrize("kwargs", [{"id": "Taxi-v4", "random_map": 4}, {"id": "FrozenLake-v1", "random_map": 2}])
def test_maps_are_drawn_for_lakes_only(kwargs):
    with pytest.raises(ValidationError, match="random_map: want 0, or 3 or more for FrozenLake"):
        GymnasiumKwargs.model_validate(kwargs)


def test_sessions_share_the_table_of_a_tabular_environment():
    one, other = adapter("Taxi-v4"), adapter("Taxi-v4")
    slippery, firm = adapter("FrozenLake-v1"), adapter("FrozenLake-v1", options={"is_slippery": False})
    assert one._env.unwrapped.P is other._env.unwrapped.P
    assert slippery._env.unwrapped.P != firm._env.unwrapped.P


def test_an_expert_takes_the_taxi_and_keeps_off_the_cliff():
    cliff = adapter("CliffWalking-v1")
    cliff.reset(0, "train")
    outcomes = [cliff.step(action) for action in ["up", *["right"] * 11, "down"]]
    assert (outcomes[-1].won, outcomes[-1].terminated, sum(o.reward for o in outcomes)) == (True, True, -13.0)
    taxi = adapter("Taxi-v4")
    taxi.reset(0, "train")
    for action in cheapest_ride(taxi):
        outcome = taxi.step(action)
        assert "\x1b" not in outcome.observation.text
    assert (outcome.won, outcome.reward) == (True, 20.0)


def cheapest_ride(taxi: GymnasiumAdapter) -> list[str]:
    """The shortest plan through Gymnasium's own table of transitions."""
    table = taxi._env.unwrapped.P
    names = ("south", "north", "east", "west", "pickup", "dropoff")
    ways: dict[int, list[str]] = {int(taxi._env.unwrapped.s): []}
    for state in (queue := list(ways)):
        for number, name in enumerate(names):
            ((_, after, reward, over),) = table[state][number]
            if over and reward > 0:
                return [*ways[state], name]
            if after not in ways and reward == -1:
                ways[after] = [*ways[state], name]
                queue.append(after)
    raise AssertionError("no way")


def test_text_observations_in_dictionaries_and_tuples_read_line_by_line():
    assert value_text({"room": "cave", "exits": ("north", "south"), "score": 3}) == (
        "room: cave\nexits: north, south\nscore: 3"
    )
