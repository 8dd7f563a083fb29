"""TextWorld's compiled games. Skipped where the extra is not installed: pip install 'gigpo-platform[textworld]'."""

import random
from importlib.util import find_spec

import pytest
from pydantic import ValidationError

from services.env.environments.textworld import TextWorld, TextWorldKwargs

pytestmark = [
    pytest.mark.skipif(
        any(find_spec(module) is None for module in TextWorld.requires),
        reason="TextWorld is not installed: pip install 'gigpo-platform[textworld]'",
    ),
    pytest.mark.filterwarnings("ignore:Game .* is not fully supported"),  # textworld's own filter ends with each test
    pytest.mark.timeout(600),  # a game is compiled in seconds, on a busy machine in a minute
]
SMALL = TextWorldKwargs(level=2)


def started(kwargs: TextWorldKwargs, seed: int = 1, split: str = "train") -> tuple[TextWorld, object]:
    game = TextWorld(kwargs)
    return game, game.reset(seed, split)


def test_texts_have_no_status_line_so_that_states_recur():
    game, first = started(SMALL)
    assert first.text.startswith("-= ")
    looked = [game.step("look").observation.text for _ in range(3)]
    assert len(set(looked)) == 1
    assert not any("-=" in text.splitlines()[-1] for text in (first.text, *looked))
    game.close()


def test_two_sessions_of_one_seed_are_one_game_and_states_are_exact():
    (one, first), (other, second) = started(SMALL), started(SMALL)
    assert first == second
    before = one.state()
    rng = random.Random(0)
    for _ in range(10):
        action = rng.choice(first.admissible_actions)
        outcome = one.step(action)
        assert outcome == other.step(action)
        assert one.state() == other.state()
        if outcome.terminated:
            break
        first = outcome.observation
    fresh, _ = started(SMALL)
    fresh.step("look")
    fresh.step("dance")
    assert fresh.state() == before
    for game in (one, other, fresh):
        game.close()


def test_the_coin_wins_with_one_reward_and_splits_are_apart():
    game, seen = started(SMALL)
    rng = random.Random(1)
    rewards = []
    for _ in range(100):
        coin = "take coin" if "take coin" in seen.admissible_actions else rng.choice(seen.admissible_actions)
        outcome = game.step(coin)
        seen = outcome.observation
        rewards.append(outcome.reward)
        if outcome.terminated:
            break
    assert (outcome.won, sum(rewards), rewards[-1], outcome.score) == (True, 1.0, 1.0, 1.0)
    game.close()
    valid, other = started(SMALL, split="valid")
    assert (other.text, other.task) != (started(SMALL)[1].text, started(SMALL)[1].task)
    assert not valid.step("dance").action_valid
    valid.close()


@pytest.mark.parametrize(
    ("kwargs", "seed"),
    [({"game": "treasure_hunter", "level": 10}, 2), ({"game": "cooking", "take": 0}, 0)],
    ids=["of which the first draw has no quest", "with everything at hand"],
)
def test_every_seed_is_a_game(kwargs, seed):
    game, first = started(TextWorldKwargs(**kwargs), seed)
    assert first.admissible_actions
    assert started(TextWorldKwargs(**kwargs), seed)[1] == first
    game.close()


@pytest.mark.parametrize(
    "kwargs",
    [{"game": "cooking", "take": 3}, {"game": "treasure_hunter", "level": 31}, {"level": 151}, {"level": 200}],
)
def test_sizes_that_the_generator_lacks_are_refused(kwargs):
    with pytest.raises(ValidationError, match="want at most"):
        TextWorldKwargs.model_validate(kwargs)
