"""Homes for sessions inside the test's own process: the same orders as a worker gets, without one."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import Field

from gigpo.env.environment import Capabilities, Environment, EnvironmentKwargs, ModelFault, Observation, Outcome
from services.env.sessions.errors import WorkerLostError
from services.env.sessions.leases import LeaseTable
from services.env.sessions.service import EnvService, Limits
from services.env.workers.registry import Registry
from services.env.workers.wire import (
    CloseEpisode,
    Describe,
    EpisodeSpec,
    Failed,
    History,
    Opened,
    OpenEpisode,
    Stepped,
    TakeStep,
)
from services.env.workers.worker import PROGRESS, Sessions


class AdderKwargs(EnvironmentKwargs):
    start: int = Field(0, ge=0)
    deterministic: bool = True
    counts_tokens: bool = False
    """Reward the length of the response."""


class Adder(Environment):
    """Adds the numbers it is told; 10 wins."""

    Kwargs = AdderKwargs
    kwargs: AdderKwargs
    capabilities = Capabilities()
    splits = ("train",)
    born = itertools.count()

    @property
    def deterministic(self) -> bool:
        return self.kwargs.deterministic

    def reset(self, seed: int, split: str) -> Observation:
        self.total = self.kwargs.start + seed
        self.number = next(self.born)
        return self._seen()

    def step(self, action: str) -> Outcome:
        if action == "raise":
            raise RuntimeError("adder is broken")
        if action == "model":
            raise ModelFault("cannot go on")
        if action == "nan":
            return Outcome(observation=self._seen(), reward=float("nan"))
        if action == "none":
            return None  # type: ignore[return-value]
        if action == "exit":
            raise SystemExit(3)
        self.total += int(action)
        won = self.total == 10
        return Outcome(observation=self._seen(), reward=float(won), won=won, terminated=won)

    def answer(self, action: str, response_tokens: int) -> Outcome:
        if not self.kwargs.counts_tokens:
            return self.step(action)
        return Outcome(observation=self.step(action).observation, reward=float(response_tokens))

    def state(self) -> object:
        return self.total

    def _seen(self) -> Observation:
        born = f" ({self.number})" if self.kwargs.start == 99 else ""
        return Observation(text=f"{self.total}{born}", task="reach 10")


class Clock:
    """Time that moves when told to, seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class LocalSession:
    def __init__(self, home: "LocalHomes", sessions: Sessions, episode: int) -> None:
        self._home, self._sessions, self._episode = home, sessions, episode

    async def step(self, action: str, response_tokens: int) -> Stepped | Failed:
        await self._home.pass_gate("step", self._sessions)
        answer = self._sessions.carry_out(TakeStep(1, self._episode, action, response_tokens))
        await self._home.pass_gate("stepped", self._sessions)
        assert isinstance(answer, Stepped | Failed)
        return answer

    def close(self) -> None:
        self._sessions.carry_out(CloseEpisode(self._episode))


class LocalHomes:
    """Stands in for the worker pool. Each loss given in `losses[place]` ends the present home at that place."""

    def __init__(self) -> None:
        references = {"adder": f"{__name__}:Adder"}
        self._registry = Registry(references)
        self._registry._classes["adder"] = Adder
        self._episodes = itertools.count(1)
        self.losses: dict[str, list[WorkerLostError]] = {"open": [], "step": [], "stepped": []}
        self.homes: list[Sessions] = []
        self.lost: list[Sessions] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._move()

    def _move(self) -> None:
        self.homes.append(Sessions(self._registry, bytearray(PROGRESS.size)))

    def lose(self) -> None:
        """End the present home while nothing runs in it."""
        self.lost.append(self.homes[-1])
        self._move()

    @property
    def live(self) -> int:
        return sum(len(home._episodes) for home in self.homes if home not in self.lost)

    async def pass_gate(self, place: str, sessions: Sessions) -> None:
        await self.gate.wait()
        if sessions in self.lost:
            raise WorkerLostError("the home is gone")
        if self.losses[place]:
            self.lose()
            raise self.losses[place].pop(0)

    async def describe(self) -> list:
        return self.homes[-1].carry_out(Describe(1, ("adder",))).environments

    async def open(self, spec: EpisodeSpec, history: History) -> object:
        sessions, episode = self.homes[-1], next(self._episodes)
        await self.pass_gate("open", sessions)
        answer = sessions.carry_out(OpenEpisode(1, episode, spec, history))
        return (LocalSession(self, sessions, episode), answer) if isinstance(answer, Opened) else answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def homes() -> LocalHomes:
    return LocalHomes()


@pytest.fixture
def make_service(homes: LocalHomes, clock: Clock) -> Callable[..., EnvService]:
    def make(*, limit: int = 100, **limits: Any) -> EnvService:
        numbers = itertools.count(1)
        return EnvService(
            homes,  # type: ignore[arg-type]
            LeaseTable(ttl_s=10.0, limit=limit),
            Limits(**{"call_timeout_s": 5.0, "max_group_size": 16, "max_action_bytes": 100, **limits}),
            clock=clock,
            new_lease_id=lambda: f"lease-{next(numbers)}",
        )

    return make


@pytest.fixture
async def service(make_service: Callable[..., EnvService]) -> EnvService:
    return make_service()
