"""The use case: score groups. A pure function of the groups' episodes and the job's algorithm; no I/O."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from gigpo_core import AdvantageConfig, Advantages, StepBatch, compute_advantages
from services.contracts.ids import Purpose
from services.contracts.job import Algorithm
from services.contracts.messages import ContractError, Episode, ScoredGroup, Step, decode


class GroupFault(ValueError):
    """The episodes of a group contradict each other: scoring them again won't help."""


@dataclass(frozen=True)
class FinishedGroup:
    """A complete group, decoded."""

    group_id: str
    purpose: Purpose
    cursor: int
    episodes: list[Episode]
    """In order of k."""
    episodes_sha: str

    def steps(self) -> list[Step]:
        """The group's rows: ordered by (k, step_index)."""
        return [step for episode in self.episodes for step in sorted(episode.steps, key=lambda step: step.step_index)]


def advantage_config(algorithm: Algorithm) -> AdvantageConfig:
    """What a job's algorithm section means to `compute_advantages`; the only place where the two meet.

    The KL stays out of the reward here: `beta` weighs the k3 term in the loss.
    """
    return AdvantageConfig(
        advantage_estimator=algorithm.advantage_estimator,
        gigpo_step_advantage_weight=algorithm.gigpo_step_advantage_weight,
        gamma=algorithm.gamma,
        norm=algorithm.norm,
        episode_statistics=algorithm.episode_statistics,
        invalid_action_penalty=algorithm.invalid_action_penalty,
        kl_in_reward=False,
        beta=algorithm.beta,
    )


def finished_group(group_id: str, purpose: Purpose, cursor: int, payloads: Sequence[bytes]) -> FinishedGroup:
    """Decode a group's stored episodes.

    Args:
        payloads: `Episode` messages in order of k.

    Raises:
        GroupFault: no episode, one of another group, a k twice, or bytes that are no episode.
    """
    if not payloads:
        raise GroupFault(f"group {group_id} has no episodes")
    try:
        episodes = [decode(payload, Episode) for payload in payloads]
    except ContractError as error:
        raise GroupFault(f"group {group_id}: {error}") from error
    for episode in episodes:
        if episode.group_id != group_id:
            raise GroupFault(f"group {group_id} holds episode {episode.episode_id} of group {episode.group_id}")
    for first, second in pairwise(episodes):
        if first.k >= second.k:
            raise GroupFault(f"group {group_id}: episode {second.k} comes after episode {first.k}")
    sha = hashlib.sha256(b"".join(payloads)).hexdigest()
    return FinishedGroup(group_id, purpose, cursor, episodes, sha)


def score_groups(
    groups: Sequence[FinishedGroup], config: AdvantageConfig, device: str | torch.device = "cpu"
) -> list[ScoredGroup]:
    """Score groups together, in one call of `compute_advantages`.

    Each result depends on its own group and `config` alone: the same bytes whatever else is in `groups`.

    Returns:
        One result per group, in the order given; a group whose episodes hold no steps gets empty columns.

    Raises:
        GigpoError, GroupFault: a group's rows are wrong; no group is scored then.
    """
    rows = [group.steps() for group in groups]
    advantages = compute_advantages(_step_batch(groups, rows, torch.device(device)), config)
    columns = _Columns.of(advantages)
    scored, start = [], 0
    for group, steps in zip(groups, rows, strict=True):
        scored.append(_scored(group, steps, columns, start, config))
        start += len(steps)
    return scored


def _step_batch(groups: Sequence[FinishedGroup], rows: Sequence[list[Step]], device: torch.device) -> StepBatch:
    group_ids: list[int] = []
    episode_ids: list[int] = []
    episodes = 0
    for position, group in enumerate(groups):
        for episode in group.episodes:
            group_ids += [position] * len(episode.steps)
            episode_ids += [episodes] * len(episode.steps)
            episodes += 1
    steps = [step for group_steps in rows for step in group_steps]
    for step in steps:
        if len(step.anchor_key) != 16:
            raise GroupFault(f"anchor_key: want 16 bytes, got {len(step.anchor_key)}")
    keys = bytearray(b"".join(step.anchor_key for step in steps))
    anchors = torch.frombuffer(keys, dtype=torch.int64).view(-1, 2) if keys else torch.zeros(0, 2, dtype=torch.int64)
    return StepBatch(
        group_id=torch.tensor(group_ids, dtype=torch.int64, device=device),
        episode_id=torch.tensor(episode_ids, dtype=torch.int64, device=device),
        step_index=torch.tensor([step.step_index for step in steps], dtype=torch.int64, device=device),
        anchor_key=anchors.to(device),
        reward=torch.tensor([step.reward for step in steps], dtype=torch.float64, device=device),
        action_valid=torch.tensor([step.action_valid for step in steps], dtype=torch.bool, device=device),
    )


@dataclass(frozen=True)
class _Columns:
    """`Advantages` on the host."""

    advantage: Tensor
    episode: Tensor
    step: Tensor
    returns: Tensor
    labels: list[int]

    @staticmethod
    def of(found: Advantages) -> _Columns:
        return _Columns(
            found.advantage.cpu(),
            found.episode_advantage.cpu(),
            found.step_advantage.cpu(),
            found.step_return.cpu(),
            found.step_group.tolist(),
        )


def _scored(
    group: FinishedGroup, steps: list[Step], columns: _Columns, start: int, config: AdvantageConfig
) -> ScoredGroup:
    rows = slice(start, start + len(steps))
    dense: dict[int, int] = {}
    labels = [dense.setdefault(label, len(dense)) for label in columns.labels[rows]]
    return ScoredGroup(
        group_id=group.group_id,
        purpose=group.purpose,
        cursor=group.cursor,
        advantage=_bytes(columns.advantage[rows]),
        episode_advantage=_bytes(columns.episode[rows]),
        step_advantage=_bytes(columns.step[rows]),
        step_return=_bytes(columns.returns[rows]),
        step_group=_bytes(torch.tensor(labels, dtype=torch.int64)),
        episodes_sha=group.episodes_sha,
        diagnostics=_diagnostics(group, steps, columns, rows, labels, config),
    )


def _bytes(column: Tensor) -> bytes:
    """Little-endian, whatever the machine."""
    values = column.contiguous().numpy()
    return bytes(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())


def _diagnostics(
    group: FinishedGroup,
    steps: list[Step],
    columns: _Columns,
    rows: slice,
    labels: list[int],
    config: AdvantageConfig,
) -> dict[str, float]:
    """Sums and counts, not means, so that those of many groups add up to those of a batch.

    `useful_anchor_rows` counts rows whose step group tells its actions apart: A^S is not 0.
    `step_group_largest` is the one maximum.
    """
    weight = config.gigpo_step_advantage_weight if config.advantage_estimator == "gigpo" else 0.0
    step_advantage = columns.step[rows].tolist()
    sizes = [0] * (max(labels, default=-1) + 1)
    for label in labels:
        sizes[label] += 1
    return {
        "episodes": float(len(group.episodes)),
        "steps": float(len(steps)),
        "won": float(sum(episode.won for episode in group.episodes)),
        "return_sum": math.fsum(step.reward for step in steps),
        "invalid_steps": float(sum(not step.action_valid for step in steps)),
        "abs_episode_advantage_sum": math.fsum(map(abs, columns.episode[rows].tolist())),
        "abs_step_advantage_sum": math.fsum(abs(weight * value) for value in step_advantage),
        "step_groups": float(len(sizes)),
        "step_group_largest": float(max(sizes, default=0)),
        "shared_anchor_rows": float(sum(sizes[label] > 1 for label in labels)),
        "useful_anchor_rows": float(sum(value != 0.0 for value in step_advantage)),
    }
