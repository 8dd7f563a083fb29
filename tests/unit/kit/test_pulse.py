"""Hung and merely busy processes are told apart."""

from pathlib import Path

from services.kit.pulse import BUSY_FACTOR, Sign, Stillness, sign_in

LOOKS = 60


def looks_until_given_up(signs: list[Sign]) -> int | None:
    """The number of the first look that gives up; None: none does."""
    stillness = Stillness(LOOKS)
    return next((number for number, sign in enumerate(signs) if stillness.hangs(sign)), None)


def test_one_that_gives_signs_is_never_given_up():
    assert looks_until_given_up([Sign(number // 50) for number in range(1_000)]) is None


def test_one_that_is_silent_and_idle_is_given_up_after_the_limit():
    assert looks_until_given_up([Sign(1, 5.0)] * 200) == LOOKS


def test_one_that_computes_without_a_sign_has_longer():
    computing = [Sign(1, 0.05 * number) for number in range(2_000)]  # its share at a load of 20 a core
    assert looks_until_given_up(computing) == BUSY_FACTOR * LOOKS


def test_one_that_stops_computing_is_given_up_a_limit_later():
    signs = [Sign(1, 0.05 * min(number, 100)) for number in range(2_000)]
    assert looks_until_given_up(signs) == 2 * LOOKS + LOOKS


def test_threads_that_only_wake_up_are_no_work():
    assert looks_until_given_up([Sign(1, 0.001 * number) for number in range(200)]) == LOOKS


def test_a_sign_after_a_long_silence_begins_anew():
    signs = [Sign(1)] * (LOOKS - 1) + [Sign(2)] * (LOOKS - 1) + [Sign(3)]
    assert looks_until_given_up(signs) is None


def test_where_nothing_can_be_said_nobody_is_given_up():
    assert looks_until_given_up([Sign(None)] * 500) is None


def test_without_a_file_nothing_can_be_said(tmp_path: Path):
    file = tmp_path / "rollout"
    file.touch()
    assert sign_in(file, 1).life is not None
    file.unlink()
    assert sign_in(file, 1) == sign_in(tmp_path / "nowhere" / "rollout", 1) == Sign(None)
