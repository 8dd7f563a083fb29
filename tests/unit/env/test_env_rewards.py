"""Reward functions: hand-worked values."""

import math
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gigpo.env.environment import InfraFault, KwargsError
from services.contracts.rewards import BUILT_IN_REWARDS, Rewards
from services.env.environments.prompts.answers import is_right
from services.env.environments.prompts.completion import Completion
from services.env.environments.prompts.rewards import reward_functions

ALONE = [name for name in BUILT_IN_REWARDS if name != "judge"]
SETTINGS = Rewards(reward_funcs=ALONE, soft_cache_length=20).within(100)


def values(text: str, tokens: int = 10, settings: Rewards = SETTINGS, solution: str | None = "7") -> dict[str, float]:
    completion = Completion(text, tokens, "3 plus 4", solution)
    functions = zip(settings.reward_funcs, reward_functions(settings), strict=True)
    return {name: function(completion) for name, function in functions}


@pytest.mark.parametrize(
    ("reply", "solution"),
    [
        ("7", "7"),
        (" 7.", "7"),
        ("+7.00", "7"),
        ("<think>8?</think><answer> 7 </answer>", "7"),
        ("<answer>8</answer> no: <answer>7</answer>", "7"),
        ("<think>3 and 4</think> The answer is 7.", "7"),
        ("\\boxed{\\frac{1}{2}}", "0.5"),
        ("$\\frac{1}{2}$", "1/2"),
        ("$1+x^2$", "x^2+1"),
        ("the  Eiffel Tower", "The Eiffel tower."),
    ],
)
def test_an_answer_is_right_as_text_as_number_and_as_mathematics(reply, solution):
    assert is_right(reply, solution)


@pytest.mark.parametrize(
    ("reply", "solution"),
    [
        ("", "7"),
        ("8", "7"),
        ("<answer>8</answer> 7", "7"),
        ("<think>7</think>", "7"),
        ("\\boxed{\\frac{1}{3}}", "0.5"),
        ("London", "Paris"),
        ("x^2 + 2", "x^2+1"),
        ("\\frac{", "7"),
    ],
)
def test_an_answer_is_wrong_when_it_is(reply, solution):
    assert not is_right(reply, solution)


def test_an_endless_answer_is_read_at_its_end_and_nothing_of_it_is_logged(caplog):
    assert is_right("1 " * 30_000 + "so it is 7", "7")
    assert not is_right("7 " * 30_000 + "8", "7")
    assert not caplog.text


def test_a_comparison_that_takes_too_long_is_an_infra_fault_and_is_asked_again(monkeypatch):
    def hanging(*_, **__):
        try:
            signal.raise_signal(signal.SIGALRM)  # as the timer does when time is up
        except (ValueError, TimeoutError, RecursionError):
            return []
        return []

    before = signal.getsignal(signal.SIGALRM)
    with monkeypatch.context() as busy:
        busy.setattr("math_verify.parse", hanging)
        with pytest.raises(InfraFault, match="comparing an answer with 'x\\^2\\+1' took over 5 s"):
            values("<answer>$1+x^2$</answer>", solution="x^2+1")
    assert signal.getsignal(signal.SIGALRM) is before
    assert values("<answer>$1+x^2$</answer>", solution="x^2+1")["accuracy"] == 1.0


DIGITS = st.builds(lambda digit, count: digit * count, st.sampled_from("079"), st.integers(1, 6_000))


@settings(deadline=None)
@given(st.text(max_size=40) | DIGITS, st.text(max_size=8) | DIGITS)
def test_any_two_texts_can_be_compared(reply, solution):
    assert is_right(reply, solution) in (True, False)


def test_numbers_too_long_to_be_read_are_compared_as_text():
    assert is_right("7" * 5_000, "7" * 5_000)
    assert not is_right("7" * 5_000, "7" * 4_999)
    assert not is_right("7" * 5_000, "7" * 1_000)
    assert is_right("7" * 1_000, "7" * 998 + "77")


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("<think>a</think><answer>b</answer>", 1.0),
        ("\n<think>a\nb</think>\n<answer></answer>\n", 1.0),
        ("<think>a</think> so <answer>b</answer>", 0.0),
        ("<think>a</think><answer>b</answer> done", 0.0),
        ("<answer>b</answer><think>a</think>", 0.0),
        ("<think>a</think><answer>b</answer><answer>c</answer>", 0.0),
        ("<think>a<answer>b</answer>", 0.0),
        ("7", 0.0),
    ],
)
def test_format_wants_thinking_then_an_answer_and_nothing_else(reply, value):
    assert values(reply)["format"] == value


@pytest.mark.parametrize(
    ("tokens", "right", "wrong"), [(0, 1.0, -0.5), (50, 0.75, -0.25), (100, 0.5, 0.0), (500, 0.5, 0.0)]
)
def test_cosine_falls_with_the_length_of_a_right_answer_and_rises_with_that_of_a_wrong_one(tokens, right, wrong):
    assert values("7", tokens)["cosine"] == pytest.approx(right, abs=1e-12)
    assert values("8", tokens)["cosine"] == pytest.approx(wrong, abs=1e-12)


def test_cosine_is_a_cosine():
    assert values("7", 25)["cosine"] == pytest.approx(0.5 + 0.5 * (1 + math.cos(math.pi / 4)) / 2)


@pytest.mark.parametrize(
    ("reply", "value"),
    [("a b c d", 0.0), ("a b", 0.0), ("", 0.0), ("a b C A b c a B c", -4 / 7), ("a a a a a", -2 / 3)],
)
def test_repetition_is_the_share_of_n_grams_that_came_before(reply, value):
    assert values(reply)["repetition"] == pytest.approx(value)


def test_repetition_can_be_told_the_words_and_the_penalty():
    settings = Rewards(reward_funcs=["repetition"], repetition_n_grams=1, repetition_max_penalty=-2.0)
    assert values("a a b", settings=settings)["repetition"] == pytest.approx(-2 / 3)


@pytest.mark.parametrize(("tokens", "value"), [(0, 0.0), (80, 0.0), (85, -0.25), (90, -0.5), (100, -1.0), (300, -1.0)])
def test_soft_overlong_falls_over_the_last_tokens(tokens, value):
    assert values("7", tokens)["soft_overlong"] == pytest.approx(value)


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        ({"reward_funcs": ["accuracy", "nonsense"]}, "unknown reward function 'nonsense'; known: accuracy, cosine"),
        ({"reward_funcs": ["cosine"]}, "cosine_max_len: cosine needs a number of tokens"),
        (
            {"reward_funcs": ["soft_overlong"], "soft_cache_length": 1},
            "soft_max_length: soft_overlong needs a number of tokens",
        ),
    ],
)
def test_functions_that_cannot_be_had_are_refused(rewards, words):
    with pytest.raises(KwargsError, match=words):
        reward_functions(Rewards(**rewards))


def test_an_installed_package_can_bring_reward_functions(tmp_path, monkeypatch):
    package = tmp_path / "kind_words-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: kind-words\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[gigpo.rewards]\nkindness = kind_words:kindness\ngone = kind_words:no\n")
    (tmp_path / "kind_words.py").write_text(
        "def kindness(completion):\n"
        "    return completion.text.count('please') * completion.row['kindness'] / completion.tokens\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (kindness,) = reward_functions(Rewards(reward_funcs=["kindness"]))
    assert kindness(Completion("please, please", 4, "ask", row={"kindness": 3})) == 1.5
    with pytest.raises(KwargsError, match=r"reward_funcs: gone can't be imported: AttributeError"):
        reward_functions(Rewards(reward_funcs=["gone"]))
