"""An author's outcomes are checked field by field: a wrong type is a bug of the environment, named, and no more."""

import asyncio
import decimal
import logging
import re
from pathlib import Path

import numpy as np
import pytest

from gigpo.env.environment import Environment, EnvironmentKwargs, Observation, Outcome
from services.env.workers.episode import MAX_OBSERVATION_BYTES
from services.env.workers.registry import Registry
from services.env.workers.wire import (
    CloseEpisode,
    EpisodeSpec,
    Failed,
    History,
    Opened,
    OpenEpisode,
    Stepped,
    TakeStep,
    frame,
)
from services.env.workers.worker import PROGRESS, Sessions

FINE = Observation(text="fine")


class Hands(Environment):
    """Hands over what the test wants."""

    first: object = FINE
    outcome: object = Outcome(observation=FINE)
    place: object = 0
    replayable: object = True
    patience: object = 0.0

    def reset(self, seed, split):
        return handed(self.first)

    def step(self, action):
        return handed(self.outcome)

    def state(self):
        return handed(self.place)

    @property
    def deterministic(self):
        return handed(self.replayable)

    @property
    def longest_call_s(self):
        return handed(self.patience)

    def close(self):
        if isinstance(self.place, BaseException):
            raise self.place


def handed(value):
    if isinstance(value, BaseException):
        raise value
    return value


class PanicException(BaseException):
    """Raise as code written in Rust does."""


class Mute(BaseException):
    def __str__(self):
        raise SystemExit


class Texts(str):
    """A text of another class."""


@pytest.fixture
def sessions(monkeypatch):
    """Sets what is handed over; then sessions of one worker."""

    def make(**values):
        for name, value in values.items():
            monkeypatch.setattr(Hands, name, value)
        return Sessions(Registry({"hands": f"{__name__}:Hands"}), bytearray(PROGRESS.size))

    return make


def opened(sessions, episode=1):
    """The answer to an opening, which can be sent."""
    answer = sessions.carry_out(OpenEpisode(1, episode, EpisodeSpec("hands", "", "", 0), History()))
    assert frame([answer])
    return answer


def stepped(sessions):
    assert isinstance(opened(sessions), Opened)
    answer = sessions.carry_out(TakeStep(2, 1, "go"))
    assert frame([answer])
    return answer


def seen(**fields):
    return Observation(**{"text": "x", **fields})


WRONG_OBSERVATIONS = [
    (seen(admissible_actions=(0, 1)), "admissible_actions[0]: want a text, got int 0"),
    (seen(admissible_actions=["go", None]), "admissible_actions[1]: want a text, got None"),
    (seen(admissible_actions=(np.int64(3),)), "admissible_actions[0]: want a text, got int64 "),
    (seen(admissible_actions="left"), "admissible_actions: want a list of texts, got str 'left'"),
    (seen(admissible_actions=b"left"), "admissible_actions: want a list of texts, got bytes b'left'"),
    (seen(admissible_actions=None), "admissible_actions: want a list of texts, got None"),
    (seen(admissible_actions=4), "admissible_actions: want a list of texts, got int 4"),
    (seen(admissible_actions={"go": 1}), "admissible_actions: want a list of texts, got dict {'go': 1}"),
    (seen(admissible_actions=("go", "\ud800")), "admissible_actions[1]: want a text of Unicode characters"),
    (seen(task=None), "task: want a text, got None"),
    (seen(task=7), "task: want a text, got int 7"),
    (seen(task="\udfff"), "task: want a text of Unicode characters"),
    (seen(text=None), "text: want a text, got None"),
    (seen(text=None, anchor="x"), "text: want a text, got None"),
    (seen(text=b"x"), "text: want a text, got bytes b'x'"),
    (seen(text={"board": 1}), "text: want a text, got dict {'board': 1}"),
    (seen(text=np.zeros(3)), "text: want a text, got ndarray "),
    (seen(text="ok\ud800"), "text: want a text of Unicode characters, got one with a lone surrogate"),
    (seen(anchor=5), "anchor: want a text, got int 5"),
    (seen(anchor="\ud800"), "anchor: want a text of Unicode characters"),
    (seen(text="a" * MAX_OBSERVATION_BYTES), "want at most 4194304 bytes in all, got 838"),
    (None, "want an Observation, got None"),
    (("x", {}), "want an Observation, got tuple ('x', {})"),
    ("x", "want an Observation, got str 'x'"),
]


@pytest.mark.parametrize(("observation", "sentence"), WRONG_OBSERVATIONS)
def test_a_wrong_observation_is_the_environments_bug_in_reset_and_step(sessions, observation, sentence):
    answer = opened(sessions(first=observation))
    assert (type(answer), answer.reason) == (Failed, "env_bug")
    assert sentence in answer.message
    answer = stepped(sessions(first=FINE, outcome=Outcome(observation=observation)))
    assert (type(answer), answer.reason) == (Failed, "env_bug")
    assert sentence in answer.message


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"reward": float("nan")}, "reward: want a finite number, got float nan"),
        ({"reward": np.float32("inf")}, "reward: want a finite number, got float32 "),
        ({"reward": None}, "reward: want a finite number, got None"),
        ({"reward": "1.5"}, "reward: want a finite number, got str '1.5'"),
        ({"reward": np.zeros(2)}, "reward: want a finite number, got ndarray "),
        ({"reward": 10**400}, "reward: want a finite number, got int "),
        ({"score": "high"}, "score: want a finite number, got str 'high'"),
        ({"score": float("inf")}, "score: want a finite number, got float inf"),
        ({"reward": 1e30}, "reward: want a number from -1e+12 to 1e+12, got float 1e+30"),
        ({"reward": np.float64(-1e13)}, "reward: want a number from -1e+12 to 1e+12, got float64 "),
        ({"rewards": (1.0, 1e30)}, "rewards[1]: want a number from -1e+12 to 1e+12, got float 1e+30"),
        ({"rewards": (1.0, float("nan"))}, "rewards[1]: want a finite number, got float nan"),
        ({"rewards": 1.0}, "rewards: want a list of numbers, got float 1.0"),
        ({"rewards": "12"}, "rewards: want a list of numbers, got str '12'"),
        ({"won": None}, "won: want true or false, got None"),
        ({"won": "no"}, "won: want true or false, got str 'no'"),
        ({"terminated": np.array([True, False])}, "terminated: want true or false, got ndarray "),
        ({"truncated": {}}, "truncated: want true or false, got dict {}"),
        ({"action_valid": 2}, "action_valid: want true or false, got int 2"),
    ],
)
def test_a_wrong_field_of_an_outcome_is_the_environments_bug(sessions, fields, sentence):
    answer = stepped(sessions(outcome=Outcome(observation=FINE, **fields)))
    assert (type(answer), answer.reason) == (Failed, "env_bug")
    assert answer.message.startswith(sentence)


@pytest.mark.parametrize(
    ("shown", "said", "valid"),
    [
        ((), None, True),
        (("go", "stay"), None, True),
        (("stay",), None, False),
        (("stay",), True, True),
        (("go",), False, False),
    ],
)
def test_an_outcome_that_does_not_say_is_valid_where_the_action_was_admissible_or_nobody_knows(
    sessions, shown, said, valid
):
    after = Outcome(observation=seen(admissible_actions=("other",)), action_valid=said)
    answer = stepped(sessions(first=seen(admissible_actions=shown), outcome=after))
    assert answer.action_valid is valid


@pytest.mark.parametrize("value", [None, (FINE, 1.0, True, False, {}), 3])
def test_what_is_no_outcome_is_named(sessions, value):
    answer = stepped(sessions(outcome=value))
    assert answer.reason == "env_bug"
    assert answer.message.startswith("step: want an Outcome, got ")


@pytest.mark.parametrize("state", [object(), 2**80, {"a": {1: lambda: 0}}, "\ud800", [[]] * 2 + [object]])
def test_a_state_that_is_no_plain_value_is_named(sessions, state):
    answer = opened(sessions(place=state))
    assert answer.reason == "env_bug"
    assert answer.message.startswith("state(): want plain values ")


@pytest.mark.parametrize("value", [None, "yes", 2])
def test_a_claim_of_determinism_that_is_no_bool_is_named(sessions, value):
    assert opened(sessions(replayable=value)).message.startswith("deterministic: want true or false, got ")


@pytest.mark.parametrize("value", [None, "30", -1.0, float("inf"), 1e9])
def test_a_limit_that_is_no_time_is_named(sessions, value):
    answer = opened(sessions(patience=value))
    assert (answer.reason, answer.message.startswith("longest_call_s: want ")) == ("env_bug", True)


def test_a_limit_that_raises_is_the_environments_bug(sessions):
    assert opened(sessions(patience=PanicException("no clock"))).message.startswith("PanicException: no clock")


def test_values_of_numpy_and_of_classes_of_ones_own_are_taken_for_what_they_are(sessions):
    observation = Observation(
        text=np.str_("here"), anchor=Texts("there"), task=Texts("go"), admissible_actions=[np.str_("a"), Texts("b")]
    )
    outcome = Outcome(
        observation=observation,
        reward=np.float64(0.5),
        score=decimal.Decimal("1.5"),
        rewards=np.array([1, 2], dtype=np.float32),
        won=np.bool_(True),
        terminated=0,
        truncated=np.bool_(False),
        action_valid=1.0,
    )
    answer = stepped(sessions(outcome=outcome, place={"cell": np.int64(3), "board": np.eye(2)}, replayable=np.True_))
    assert isinstance(answer, Stepped)
    assert (answer.reward, answer.score, answer.rewards) == (0.5, 1.5, (1.0, 2.0))
    assert (answer.won, answer.terminated, answer.truncated, answer.action_valid) == (True, False, False, True)
    shown = answer.observation
    assert (shown.text, shown.anchor, shown.task, shown.admissible_actions) == ("here", "there", "go", ("a", "b"))
    assert {type(one) for one in (shown.text, shown.anchor, shown.task, *shown.admissible_actions)} == {str}
    plain = opened(sessions(place={"cell": 3, "board": [[1.0, 0.0], [0.0, 1.0]]}), episode=2)
    assert plain.observation.state_key == shown.state_key


RAISED = [
    (asyncio.CancelledError(), "CancelledError"),
    (KeyboardInterrupt(), "KeyboardInterrupt"),
    (GeneratorExit(), "GeneratorExit"),
    (SystemExit(3), "SystemExit: 3"),
    (PanicException("index out of bounds"), "PanicException: index out of bounds"),
    (BaseExceptionGroup("both", [KeyboardInterrupt()]), "BaseExceptionGroup: both (1 sub-exception)"),
    (Mute(), "Mute: its message cannot be shown"),
    (ValueError("\ud800"), "ValueError: \\ud800"),
    (MemoryError(), "MemoryError"),
]


@pytest.fixture
def unlogged(caplog):
    """A report that holds a lone surrogate cannot travel between the processes of a test run."""
    caplog.set_level(logging.CRITICAL)


@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize(("error", "message"), RAISED)
def test_whatever_is_raised_is_the_environments_bug_by_its_name(sessions, error, message):
    place = rf" \({Path(__file__).name}, line \d+, in handed\)"
    answer = opened(sessions(first=error))
    assert answer.reason == "env_bug"
    assert re.fullmatch(re.escape(message) + place, answer.message)
    answer = stepped(sessions(first=FINE, outcome=error))
    assert answer.reason == "env_bug"
    assert re.fullmatch(re.escape(message) + place, answer.message)
    answer = opened(sessions(place=error))
    assert answer.reason == "env_bug"


@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize(("error", "message"), RAISED)
def test_a_close_that_raises_ends_no_worker(sessions, error, message, monkeypatch):
    home = sessions()
    assert isinstance(opened(home), Opened)
    monkeypatch.setattr(Hands, "place", error)
    assert home.carry_out(CloseEpisode(1)) is None
    monkeypatch.setattr(Hands, "place", 0)
    assert isinstance(opened(home, episode=2), Opened)


def test_a_constructor_that_raises_is_the_environments_bug(sessions, monkeypatch):
    def broken(self, kwargs: EnvironmentKwargs) -> None:
        raise PanicException("no device")

    monkeypatch.setattr(Hands, "__init__", broken)
    assert re.fullmatch(r"PanicException: no device \(.*, line \d+, in broken\)", opened(sessions()).message)
