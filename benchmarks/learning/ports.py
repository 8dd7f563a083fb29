"""The player's ports in this process: environments, a sampling policy, and a ledger in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.contracts.messages import Episode, GenerateItem, OpenedGroup
from services.contracts.observation import KeyedObservation, KeyedOutcome
from services.contracts.sampling import SampledTokens, Sampling
from services.env.workers.episode import Episode as Session
from services.env.workers.registry import Registry, valid_kwargs, valid_split
from services.inference.transformers_model import LoadedModel
from services.ledger import Attempt, DropReason, GroupState
from services.rollout.ports import Ask, OpenedSessions, Opening


class LocalEnvironments:
    """Sessions of the registry's environments, stepped where they are called.

    Args:
        registry: the environments.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._live: dict[str, Session] = {}

    async def open(self, opening: Opening) -> OpenedSessions:
        """n sessions from one initial state."""
        found = self._registry.find(opening.environment)
        kwargs = valid_kwargs(found, json.dumps(opening.kwargs))
        split = valid_split(found, opening.split)
        leases = [f"{opening.key}#{k}" for k in range(opening.n)]
        first: KeyedObservation | None = None
        for lease in leases:
            self._live[lease] = Session(found(kwargs), kwargs)
            first = self._live[lease].reset(opening.seed, split)
        assert first is not None
        return OpenedSessions(leases, first)

    async def step(self, lease: str, seq: int, action: str, response_tokens: int = 0) -> KeyedOutcome:
        """Apply one action."""
        done = self._live[lease].step(seq, action, response_tokens)
        return KeyedOutcome(
            done.observation,
            done.reward,
            done.score,
            done.won,
            done.terminated,
            done.truncated,
            done.action_valid,
            done.rewards,
            done.judge_tokens,
            done.action_key,
        )

    def release(self, leases: Sequence[str]) -> None:
        """End sessions."""
        for lease in leases:
            if (session := self._live.pop(lease, None)) is not None:
                session.close()


class LocalInference:
    """Samples what is asked for in one turn of the event loop as one batch, with the engine that `transformers` jobs
    have.

    Args:
        model: its weights are those of the version that is served.
        alone: each prompt is a batch of its own, as in a job with `deterministic: true`; slower, and equal to the bit.
    """

    def __init__(self, model: LoadedModel, *, alone: bool = False) -> None:
        self._model, self._alone = model, alone
        self._asked: list[tuple[GenerateItem, Sampling, asyncio.Future[SampledTokens]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def generate(self, ask: Ask) -> SampledTokens:
        """The continuation."""
        future: asyncio.Future[SampledTokens] = asyncio.get_running_loop().create_future()
        self._asked.append((ask.item, ask.sampling, future))
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer())
        return await future

    async def _answer(self) -> None:
        known = -1
        while known < len(self._asked):  # wait until nobody else asks
            known = len(self._asked)
            await asyncio.sleep(0)
        asked, self._asked, self._answering = self._asked, [], None
        # the order is their own, so that the batch does not depend on who came first
        asked.sort(key=lambda one: one[0].item_id)
        try:
            items, sampling = [item for item, _, _ in asked], asked[0][1]
            batches = [[item] for item in items] if self._alone else [items]
            found = [one for batch in batches for one in self._model.sample(batch, sampling)]
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            for _, _, future in asked:
                future.set_exception(error)
            return
        for (_, _, future), sampled in zip(asked, found, strict=True):
            future.set_result(sampled)


@dataclass
class LocalLedger:
    """Keeps the episodes of the groups that are played. Nothing is played twice: a failure ends the run."""

    episodes: dict[str, dict[int, Episode]] = field(default_factory=dict)

    async def start(self, group_id: str, worker: str) -> Attempt:
        """The one attempt."""
        self.episodes[group_id] = {}
        return Attempt(1, 1)

    async def record(self, episode: Episode, group: OpenedGroup) -> GroupState:
        """Store a finished episode."""
        self.episodes[group.group_id][episode.k] = episode
        return GroupState.COMPLETE if len(self.episodes[group.group_id]) == group.n else GroupState.GENERATING

    async def fail(
        self, group_id: str, attempt: int, cause: str, *, reason: DropReason = DropReason.INFRA, lost: bool = False
    ) -> GroupState:
        """End the run."""
        raise RuntimeError(f"group {group_id}: {cause}")
