"""TextArena's games and reasoning-gym's data sets. Skipped where their extras are not installed."""

import random
from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import ValidationError

from gigpo.env.environment import KwargsError
from services.env.environments.reasoning_gym import ReasoningGym, ReasoningGymKwargs
from services.env.environments.textarena import TextArena, TextArenaKwargs, _plain

arena = pytest.mark.skipif(find_spec("textarena") is None, reason="the extra textarena is not installed")
gym = pytest.mark.skipif(find_spec("reasoning_gym") is None, reason="the extra reasoning-gym is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # of the packages' own


def game(name: str = "TowerOfHanoi-v0", seed: int = 0, split: str = "train", **kwargs: Any) -> tuple[TextArena, Any]:
    made = TextArena(TextArenaKwargs(game=name, **kwargs))
    return made, made.reset(seed, split)


SOLUTION = ["[A C]", "[A B]", "[C B]", "[A C]", "[B A]", "[B C]", "[A C]"]


@arena
def test_the_tower_is_moved_and_states_recur() -> None:
    tower, first = game()
    assert first.text.splitlines() == ["Current Board:", "A: [3, 2, 1]", "B: []", "C: []", "."]
    assert "move the disks from tower A to tower C" in first.task
    tower.step("[A C]")
    back = tower.step("[C A]")
    assert (back.observation.anchor, back.action_valid) == (first.anchor, True)
    outcomes = [tower.step(move) for move in SOLUTION]
    assert [outcome.terminated for outcome in outcomes] == [False] * 6 + [True]
    assert (outcomes[-1].won, outcomes[-1].reward) == (True, 1.0)


@arena
def test_a_wrong_move_is_invalid_and_leaves_the_board_standing() -> None:
    tower, first = game()
    wrong = tower.step("to the right, please")
    assert (wrong.action_valid, wrong.observation.anchor) == (False, first.anchor)
    assert wrong.observation.text.startswith(first.text)
    assert "resubmit a valid move" in wrong.observation.text
    assert tower.step("[A C]").action_valid
    tower.step("nonsense")
    over = tower.step("nonsense")
    assert (over.terminated, over.won, over.action_valid) == (True, False, False)


@arena
@pytest.mark.parametrize("name", ["FrozenLake-v0", "Mastermind-v0", "2048-v0", "Minesweeper-v0", "LightsOut-v0"])
def test_a_seed_is_a_game(name: str) -> None:
    def played() -> list[Any]:
        made, first = game(name, 7)
        random.seed(0)  # some draw from it in their steps; a worker gives each session its own
        seen = [first]
        for action in ("[right]", "[1 2 3 4]", "[Up]", "[0 0]", "[Left]"):
            outcome = made.step(action)
            seen += [outcome, made.state()]
            if outcome.terminated:
                break
        return seen

    assert played() == played()


@arena
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Tower", "game: want one of .*TowerOfHanoi-v0"),
        ("TicTacToe-v0", "game: want one for one player, TicTacToe-v0: The number of players has to be 2"),
        ("Wordle-v0", "game, options: Wordle-v0 cannot be made: .*Resource 'words' not found|"),
    ],
)
def test_what_cannot_be_played_is_refused_with_its_reason(name: str, said: str) -> None:
    with pytest.raises(KwargsError, match=said):
        game(name)


def test_a_state_is_made_plain() -> None:
    assert _plain({"a": {3, 1}, 2: (1, object())}) == {"a": ["1", "3"], "2": [1, "object"]}


def question(seed: int = 0, split: str = "train", **kwargs: Any) -> tuple[ReasoningGym, Any]:
    made = ReasoningGym(ReasoningGymKwargs(**kwargs))
    return made, made.reset(seed, split)


@gym
@pytest.mark.parametrize("dataset", ["leg_counting", "countdown", "simple_equations", "maze"])
def test_a_question_is_scored_by_its_own_data_set(dataset: str) -> None:
    made, seen = question(dataset=dataset)
    assert seen.task == made._entry["question"]
    right = made.step(f"<think>...</think><answer>{made._entry['answer']}</answer>")
    assert (right.reward, right.won, right.terminated) == (1.0, True, True)
    made.reset(0, "train")
    assert not made.step("no idea").won


@gym
def test_a_seed_is_a_question_and_splits_are_apart() -> None:
    train, again, test = ([question(seed, split)[1].task for seed in range(30)] for split in ("train", "train", "test"))
    assert train == again
    assert not {*train} & {*test}


@gym
@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"dataset": "leg_countin"}, "dataset: want one of reasoning-gym's .*leg_counting.*, got 'leg_countin'"),
        ({"config": {"seed": 1}}, "config: seed cannot be set"),
        ({"config": {"legs": 1}}, "dataset, config: leg_counting cannot be made: .*legs"),
        ({"config": {"min_animals": 9, "max_animals": 2}}, "dataset, config: leg_counting cannot be made"),
    ],
)
def test_a_data_set_that_there_is_not_is_refused(kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(KwargsError, match=said):
        question(**kwargs)


def test_one_reply_ends_the_episode() -> None:
    with pytest.raises(ValidationError, match="max_turns"):
        ReasoningGymKwargs(max_turns=2)
