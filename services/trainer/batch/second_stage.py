"""The second scoring stage: computes advantages whose scale spans the batch, when the batch is cut.

A complete group is first scored alone; all groups of a batch are together only here. The result replaces the groups'
scores, so the manifest holds its hash, a successor that replays the manifest must compute the same bytes, and the
archive shows the trained advantages.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor

from gigpo_core import AdvantageConfig, StepBatch, compute_advantages
from services.contracts.algorithm import advantage_values
from services.contracts.job import JobSpec
from services.contracts.messages import Episode, Step, encode
from services.trainer.groups.payloads import Payload


def scored_together(groups: Sequence[Payload], spec: JobSpec) -> list[Payload]:
    """The groups of a batch with the advantages that they have in it; unchanged where no scale spans the batch.

    A pure function of the stored episodes and the spec: equal groups in equal order give equal bytes.

    Raises:
        GigpoError: a group's rows are wrong.
    """
    config = AdvantageConfig(**advantage_values(spec.algorithm, spec.rewards))
    if not config.spans_batch:
        return list(groups)
    batch = _step_batch([group.episodes for group in groups], functions=len(spec.rewards.reward_funcs))
    found = compute_advantages(batch, config)
    sizes = [sum(len(episode.steps) for episode in group.episodes) for group in groups]
    parts = zip(groups, torch.split(found.advantage, sizes), torch.split(found.episode_advantage, sizes), strict=True)
    return [_rescored(group, advantage, episode) for group, advantage, episode in parts]


def _rescored(group: Payload, advantage: Tensor, episode: Tensor) -> Payload:
    scored = msgspec.structs.replace(
        group.scored,
        advantage=_bytes(advantage),
        episode_advantage=_bytes(episode),
        diagnostics={**group.scored.diagnostics, "abs_episode_advantage_sum": float(episode.abs().sum())},
    )
    return Payload(encode(scored), group.episode_payloads, scored, group.episodes)


def _bytes(column: Tensor) -> bytes:
    return struct.pack(f"<{len(column)}d", *column.tolist())


def _step_batch(groups: Sequence[Sequence[Episode]], functions: int) -> StepBatch:
    """The rows in order of (group, k, step_index). Estimators without a step level compare no states."""
    episodes = [(number, episode) for number, group in enumerate(groups) for episode in group]
    rows: list[tuple[int, int, Step]] = [
        (group, number, step)
        for number, (group, episode) in enumerate(episodes)
        for step in sorted(episode.steps, key=lambda step: step.step_index)
    ]
    components = torch.tensor([step.rewards for *_, step in rows], dtype=torch.float64).view(len(rows), functions)
    # the values of reward functions stand for the reward, which is their weighted sum
    rewards = [0.0 if functions else step.reward for *_, step in rows]
    return StepBatch(
        group_id=torch.tensor([group for group, *_ in rows], dtype=torch.int64),
        episode_id=torch.tensor([number for _, number, _ in rows], dtype=torch.int64),
        step_index=torch.tensor([step.step_index for *_, step in rows], dtype=torch.int64),
        anchor_key=torch.zeros(len(rows), 2, dtype=torch.int64),
        reward=torch.tensor(rewards, dtype=torch.float64),
        action_valid=torch.tensor([step.action_valid for *_, step in rows], dtype=torch.bool),
        reward_components=components if functions else None,
    )
