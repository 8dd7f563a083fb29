"""A step that waits for another's word: it waits in a thread, and the worker's other sessions go on meanwhile."""

import threading
import time

import pytest

from gigpo.env.environment import Environment, InfraFault, Observation, Outcome
from services.env.workers.registry import Registry
from services.env.workers.wire import (
    EpisodeSpec,
    Failed,
    FailedReason,
    History,
    Opened,
    OpenEpisode,
    Stepped,
    TakeStep,
)
from services.env.workers.worker import PROGRESS, Sessions

LONG_S = 60.0


class Asks(Environment):
    """Asks whoever stands behind `word`, where the seed is odd."""

    word = threading.Event()
    fails = False

    def reset(self, seed: int, split: str) -> Observation:
        self._asks, self._heard = bool(seed % 2), ""
        return Observation(text="begin")

    @property
    def consults(self) -> bool:
        return self._asks

    def consult(self, action: str, response_tokens: int) -> None:
        if not self.word.wait(LONG_S):
            raise TimeoutError
        if self.fails:
            raise InfraFault("nobody answers")
        self._heard = f"{action} {response_tokens} in {threading.current_thread().name}"

    def answer(self, action: str, response_tokens: int) -> Outcome:
        text = f"{self._heard}, answered in {threading.current_thread().name}"
        return Outcome(observation=Observation(text=text), reward=1.0)

    def step(self, action: str) -> Outcome:
        raise NotImplementedError


@pytest.fixture
def sessions(monkeypatch):
    def make(**settings) -> Sessions:
        monkeypatch.setattr(Asks, "word", threading.Event())
        found = Sessions(Registry({"asks": f"{__name__}:Asks"}), bytearray(PROGRESS.size), **settings)
        for seed in (1, 2):
            opened = found.carry_out(OpenEpisode(seed, seed, EpisodeSpec("asks", "", "", seed), History()))
            assert isinstance(opened, Opened)
        return found

    return make


def resumed(sessions: Sessions) -> list:
    deadline = time.monotonic() + LONG_S
    while not (found := sessions.resumed()):
        assert sessions.busy
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_other_sessions_go_on_while_one_consults(sessions):
    worker = sessions()
    order = TakeStep(11, 1, "look", 3)
    assert worker.carry_out(order) is None
    beside = worker.carry_out(TakeStep(12, 2, "go"))
    assert isinstance(beside, Stepped)
    assert worker.busy
    assert worker.resumed() == []
    Asks.word.set()
    assert resumed(worker) == [order]
    stepped = worker.carry_out(order)
    assert isinstance(stepped, Stepped)
    assert stepped.observation.text == "look 3 in session 1, answered in MainThread"
    assert not worker.busy
    assert worker.carry_out(order) is None  # the next step consults again
    assert resumed(worker) == [order]


def test_what_fails_there_ends_its_session_alone(sessions, monkeypatch):
    worker = sessions()
    monkeypatch.setattr(Asks, "fails", True)
    order = TakeStep(11, 1, "look")
    worker.carry_out(order)
    Asks.word.set()
    assert resumed(worker) == [order]
    failed = worker.carry_out(order)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.message) == (FailedReason.INFRA, "nobody answers")
    lost = worker.carry_out(TakeStep(12, 1, "look"))
    assert isinstance(lost, Failed)
    assert lost.reason is FailedReason.LOST
    assert isinstance(worker.carry_out(TakeStep(13, 2, "go")), Stepped)


def test_one_that_never_hears_is_given_up(sessions):
    worker = sessions(step_timeout_s=0.01)
    worker.carry_out(TakeStep(11, 1, "look"))
    deadline = time.monotonic() + LONG_S
    while not (given_up := worker.given_up()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (failed,) = given_up
    assert (failed.request, failed.reason) == (11, FailedReason.HUNG)
    assert not worker.busy
    Asks.word.set()  # its thread ends, and nothing comes of it
    assert worker.resumed() == []
