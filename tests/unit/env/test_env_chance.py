"""Sessions of one worker that draw from the global generators do not disturb each other."""

import random

import numpy as np
import pytest

from services.env.workers.chance import LOOKED_AT, SPARED_AFTER, Chance


def draw() -> tuple[float, float]:
    return random.random(), float(np.random.random())


def played_alone(start: str, turns: int) -> list[tuple[float, float]]:
    chance = Chance()
    with chance.of_new(1, "dice", start):
        found = [draw()]
    for _ in range(turns - 1):
        with chance.of(1):
            found.append(draw())
    return found


def test_two_sessions_of_one_seed_draw_the_same_and_others_do_not_disturb_them() -> None:
    chance, found = Chance(), {1: [], 2: [], 3: []}
    for session, start in ((1, "dice/train/7"), (2, "dice/train/7"), (3, "dice/train/8")):
        with chance.of_new(session, "dice", start):
            found[session].append(draw())
    for session in (1, 3, 3, 2, 1, 3, 2):
        random.random()
        with chance.of(session):
            found[session].append(draw())
    assert found[1] == found[2] == played_alone("dice/train/7", 3)
    assert found[3][:3] == played_alone("dice/train/8", 3) != found[1]


def test_an_exception_keeps_what_was_drawn() -> None:
    chance = Chance()
    with chance.of_new(1, "dice", "a"):
        first = draw()
    drawn = [first]

    def fail() -> None:
        with chance.of(1):
            drawn.append(draw())
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail()
    with chance.of(1):
        assert [*drawn, draw()] == played_alone("a", 3)


def test_an_environment_that_never_draws_is_spared_until_it_does() -> None:
    chance = Chance()
    for session in range(SPARED_AFTER):
        with chance.of_new(session, "grid", "a"):
            pass
        chance.forget(session)
    with chance.of_new(1000, "grid", "a"):
        assert draw() != played_alone("a", 1)[0], "nobody's numbers were put in place"
    chance.forget(1000)
    for session in range(1001, 1000 + LOOKED_AT):
        with chance.of_new(session, "grid", "a"):
            pass
        chance.forget(session)
    with chance.of_new(2000, "grid", "a"):
        assert draw() == played_alone("a", 1)[0]


def test_pairs_of_normal_numbers_come_again_in_a_replay_beside_other_sessions() -> None:
    """NumPy draws normal numbers in pairs and keeps the second: it must not pass to a neighbour."""

    def played(*, beside: bool) -> list[float]:
        chance, found = Chance(), []
        for session in (1, 2) if beside else (1,):
            with chance.of_new(session, "dice", f"seed {session}"):
                np.random.normal()
        for session in (1, 2, 1, 2, 2, 1) if beside else (1, 1, 1):
            with chance.of(session):
                value = float(np.random.normal())
            found += [value] if session == 1 else []
        return found

    assert played(beside=True) == played(beside=False)


def test_an_own_bit_generator_and_a_seed_of_the_author_stay_with_the_session() -> None:
    chance = Chance()
    outside = np.random.get_bit_generator()
    for session in (1, 2):
        with chance.of_new(session, "dice", "a"):
            np.random.seed(5)
    with chance.of(1):
        np.random.set_bit_generator(np.random.PCG64(7))
        np.random.random(), random.seed(3)
    with chance.of(2):
        second = np.random.random()
    with chance.of(1):
        first, word = np.random.random(), random.random()
    assert second == np.random.RandomState(5).random()
    assert first == np.random.RandomState(np.random.PCG64(7)).random(2)[1]
    assert word == random.Random(3).random()
    assert np.random.get_bit_generator() is outside
