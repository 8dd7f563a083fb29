"""Where a player plays in tests: the same tests run on fakes and on the real ledger, environments and inference."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.contracts.arrays import unpack_int32
from services.contracts.environment import EnvironmentInfo
from services.contracts.ids import group_id, task_seed
from services.contracts.job import JobSpec
from services.contracts.messages import Episode, OpenedGroup
from services.contracts.sampling import SampledTokens
from services.ledger import GroupState
from services.rollout.playbook import Playbook, make_playbook
from services.rollout.player import Player
from services.rollout.ports import EpisodeLedger
from tests.unit.rollout.fakes import CORRIDOR_WORDS, FakeEnvironments, FakeInference, FakeLedger
from tests.unit.rollout.policy_folder import word_tokens

JOB = "job_1"
REPLIES = ["go left", "go right", "go north", "go south", "go", "take apple", "act act act"]


@dataclass
class Stage:
    """A player with everything around it."""

    job_id: str
    player: Player
    playbook: Playbook
    ledger: EpisodeLedger
    open: Callable[[OpenedGroup], Awaitable[None]]
    state: Callable[[str], Awaitable[GroupState]]
    episodes: Callable[[str], Awaitable[list[Episode]]]
    live_leases: Callable[[], Awaitable[int]]
    sampled: Mapping[str, Any]
    """Item id -> what the replica answered: anything with response_ids, logprobs and versions."""

    def group(self, cursor: int = 0, **changes: Any) -> OpenedGroup:
        """The job's `cursor`-th training group."""
        fields: dict[str, Any] = {
            "job_id": self.job_id,
            "group_id": group_id(self.playbook.spec.fingerprint(), "train", 0, cursor),
            "purpose": "train",
            "cursor": cursor,
            "task_seed": task_seed(0, "train", cursor),
            "split": "train",
            "n": 3,
            "min_version": 0,
        }
        return OpenedGroup(**{**fields, **changes})

    async def play(self, group: OpenedGroup) -> list[Episode]:
        """Open a group, play it once; its episodes in order of k."""
        await self.open(group)
        await self.player.play(group)
        return await self.episodes(group.group_id)


def spec_of(
    environment: Mapping[str, Any],
    rewards: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    **rollout: Any,
) -> JobSpec:
    """A small job; its model is one from scratch unless it is given."""
    return JobSpec.model_validate(
        {
            "model": model or {"scratch": {}},
            "environment": {"max_turns": 6, **environment},
            "rewards": rewards or {},
            "rollout": {"num_generations": 3, "max_completion_length": 4, **rollout},
        }
    )


def encoded_replies(playbook: Playbook, replies: list[str]) -> list[list[int]]:
    """Token ids of replies, the stop token after each but the last: that one runs into the limit."""
    ids = [unpack_int32(playbook.tokens.encode_reply(reply)) for reply in replies]
    return [*ids[:-1], ids[-1][:-1]]


_folders = itertools.count()


def fake_stage(folder: Path, job_id: str = JOB, **environment: Any) -> Stage:
    """A stage of fakes only: the corridor."""
    info = EnvironmentInfo(id="corridor", kwargs_schema={"properties": {"max_turns": {}}})
    tokens = word_tokens(folder / str(next(_folders)), CORRIDOR_WORDS)
    playbook = make_playbook(job_id, spec_of({"environment": "corridor", **environment}), info, tokens)
    ledger, environments = FakeLedger(), FakeEnvironments()
    inference = FakeInference(encoded_replies(playbook, REPLIES))
    player = Player(playbook, ledger, environments, inference, "w1")

    async def open_(group: OpenedGroup) -> None:
        ledger.open(group)

    async def state(group_id: str) -> GroupState:
        return ledger.states[group_id]

    async def episodes(group_id: str) -> list[Episode]:
        return [episode for _, episode in sorted(ledger.stored[group_id].items())]

    async def live_leases() -> int:
        return len(environments.live)

    sampled: Mapping[str, SampledTokens] = inference.sampled
    return Stage(job_id, player, playbook, ledger, open_, state, episodes, live_leases, sampled)
