"""Plays groups by a fixed plan for the checks, and records each episode action by action."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from gigpo_proto.env.v1 import env_pb2

from services.env.tools.local import EnvClient, Task

TURNS = {env_pb2.COST_CLASS_LIGHT: 60, env_pb2.COST_CLASS_MODERATE: 20, env_pb2.COST_CLASS_HEAVY: 8}
"""How long an episode is played for a check, by what a step costs."""
SESSIONS = {env_pb2.COST_CLASS_LIGHT: 4, env_pb2.COST_CLASS_MODERATE: 4, env_pb2.COST_CLASS_HEAVY: 2}


@dataclass
class Episode:
    """The observations of one session."""

    first: env_pb2.Observation
    actions: list[str] = field(default_factory=list)
    outcomes: list[env_pb2.Outcome] = field(default_factory=list)

    @property
    def observations(self) -> list[env_pb2.Observation]:
        """The first one and one an action; none for one that ended in a fault."""
        seen = (outcome.observation for outcome in self.outcomes if not outcome.HasField("fault"))
        return [self.first, *seen]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        last = self.outcomes[-1] if self.outcomes else None
        return last is not None and (last.terminated or last.truncated or last.HasField("fault"))


@dataclass
class Subject:
    """The subject of a check: an environment with kwargs, through a client of a live service."""

    client: EnvClient
    entry: env_pb2.EnvironmentInfo
    task: Task
    _played: dict[int, list[Episode]] = field(default_factory=dict)

    @property
    def turns(self) -> int:
        """Turns that a play takes at most."""
        return TURNS.get(self.entry.capabilities.cost_class, 8)

    @property
    def sessions(self) -> int:
        """Sessions of a group."""
        most = self.entry.max_sessions or 1024
        return min(SESSIONS.get(self.entry.capabilities.cost_class, 2), most)

    @contextlib.asynccontextmanager
    async def opened(self, n: int, *, seed: int = 0, split: str = "") -> AsyncIterator[env_pb2.OpenGroupResponse]:
        """A group, closed at the end."""
        task = Task(self.task.environment, self.task.kwargs, split, seed)
        group = await self.client.open(task, n)
        try:
            yield group
        finally:
            await self.client.close(group.leases)

    async def played(self, seed: int = 0) -> list[Episode]:
        """A group played by the plans of `seed`; played once, then remembered."""
        if seed not in self._played:
            self._played[seed] = await play(self, seed)
        return self._played[seed]

    def action(self, seen: env_pb2.Observation, plan: random.Random) -> str:
        """One that can be tried now: of the admissible ones, otherwise of the author's examples."""
        return plan.choice(list(seen.admissible_actions) or list(self.entry.example_actions) or [""])


async def play(subject: Subject, seed: int, *, backwards: bool = False) -> list[Episode]:
    """Play a group, each session by a plan of its own that follows from `seed`.

    Args:
        backwards: the last session takes the first plan, so that a plan is carried out in another worker.
    """
    async with subject.opened(subject.sessions, seed=seed) as group:
        leases = list(reversed(group.leases)) if backwards else list(group.leases)
        return await asyncio.gather(
            *(
                _episode(subject, group.observation, lease, random.Random(f"plan/{seed}/{number}"))
                for number, lease in enumerate(leases)
            )
        )


async def _episode(subject: Subject, first: env_pb2.Observation, lease: str, plan: random.Random) -> Episode:
    episode = Episode(first)
    while not episode.over and len(episode.actions) < subject.turns:
        action = subject.action(episode.observations[-1], plan)
        episode.outcomes.append(await subject.client.step(lease, len(episode.actions) + 1, action))
        episode.actions.append(action)
    return episode
