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
from services.contracts.algorithm import STEP_ESTIMATORS, Algorithm, AnchorState
from services.contracts.ids import Purpose
from services.contracts.messages import STEP_GROUP_BINS, ContractError, Episode, ScoredGroup, Step, decode
from services.contracts.rewards import Rewards


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


def advantage_config(algorithm: Algorithm, rewards: Rewards | None = None) -> AdvantageConfig:
    """What a job's sections mean to `compute_advantages`; the only place where they meet.

    The KL stays out of the reward here: `beta` weighs the k3 term in the loss.
    """
    return AdvantageConfig(
        advantage_estimator=algorithm.advantage_estimator,
        gigpo_step_advantage_weight=algorithm.gigpo_step_advantage_weight,
        gamma=algorithm.gamma,
        norm=algorithm.norm,
        episode_statistics=algorithm.episode_statistics,
        invalid_action_penalty=algorithm.invalid_action_penalty,
        anchor_similarity=algorithm.anchor_similarity,
        scale_rewards=algorithm.scale_rewards,
        kl_in_reward=False,
        reward_weights=(rewards.weights if rewards else ()) or None,
        hgpo_history=algorithm.hgpo_history,
        hgpo_alpha=algorithm.hgpo_alpha,
        hgpo_base_group=algorithm.hgpo_base_group,
        graphgpo_success_reward=algorithm.graphgpo_success_reward,
    )


@dataclass(frozen=True)
class Scoring:
    """All that a score depends on beside the episodes; equal for jobs that may be scored together."""

    config: AdvantageConfig
    anchor_state: AnchorState = "text"
    """Which of a step's digests names its state."""

    @staticmethod
    def of(algorithm: Algorithm, rewards: Rewards | None = None) -> Scoring:
        return Scoring(advantage_config(algorithm, rewards), algorithm.anchor_state)

    @property
    def step_weight(self) -> float:
        """What A^S is multiplied with in A: omega; 1 under hgpo, whose A^S is its whole advantage."""
        estimator = self.config.advantage_estimator
        if estimator == "hgpo":
            return 1.0
        return self.config.gigpo_step_advantage_weight if estimator in STEP_ESTIMATORS else 0.0


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
    groups: Sequence[FinishedGroup], scoring: Scoring, device: str | torch.device = "cpu"
) -> list[ScoredGroup]:
    """Score groups together, in one call of `compute_advantages`.

    Each result depends on its own group and `scoring` alone: the same bytes whatever else is in `groups`.

    Returns:
        One result per group, in the order given; a group whose episodes hold no steps gets empty columns.

    Raises:
        GigpoError, GroupFault: a group's rows are wrong; no group is scored then.
    """
    rows = [group.steps() for group in groups]
    advantages = compute_advantages(_step_batch(groups, rows, scoring, torch.device(device)), scoring.config)
    columns = _Columns.of(advantages)
    scored, start = [], 0
    for group, steps in zip(groups, rows, strict=True):
        scored.append(_scored(group, steps, columns, start, scoring))
        start += len(steps)
    return scored


def _step_batch(
    groups: Sequence[FinishedGroup], rows: Sequence[list[Step]], scoring: Scoring, device: torch.device
) -> StepBatch:
    group_ids: list[int] = []
    episode_ids: list[int] = []
    success: list[bool] = []
    episodes = 0
    for position, group in enumerate(groups):
        for episode in group.episodes:
            group_ids += [position] * len(episode.steps)
            episode_ids += [episodes] * len(episode.steps)
            success += [episode.won] * len(episode.steps)  # graphgpo asks whether any step of it says so
            episodes += 1
    steps = [step for group_steps in rows for step in group_steps]
    components = _reward_components(steps, len(scoring.config.reward_weights or ()), device)
    keys = bytearray(b"".join(_digest(step, scoring.anchor_state) for step in steps))
    anchors = torch.frombuffer(keys, dtype=torch.int64).view(-1, 2) if keys else torch.zeros(0, 2, dtype=torch.int64)
    return StepBatch(
        group_id=torch.tensor(group_ids, dtype=torch.int64, device=device),
        episode_id=torch.tensor(episode_ids, dtype=torch.int64, device=device),
        step_index=torch.tensor([step.step_index for step in steps], dtype=torch.int64, device=device),
        anchor_key=anchors.to(device),
        # the values of reward functions stand for the reward, which is their weighted sum
        reward=torch.tensor(
            [step.reward if components is None else 0.0 for step in steps], dtype=torch.float64, device=device
        ),
        action_valid=torch.tensor([step.action_valid for step in steps], dtype=torch.bool, device=device),
        anchor_text=[step.anchor for step in steps],
        success=torch.tensor(success, dtype=torch.bool, device=device),
        reward_components=components,
    )


def _reward_components(steps: Sequence[Step], functions: int, device: torch.device) -> Tensor | None:
    """float64 [N, F]; None for jobs without reward functions."""
    for step in steps:
        if len(step.rewards) != functions:
            raise GroupFault(f"rewards: want one for each of {functions} reward functions, got {len(step.rewards)}")
    if not functions:
        return None
    values = torch.tensor([step.rewards for step in steps], dtype=torch.float64, device=device)
    return values.view(-1, functions)


def _digest(step: Step, anchor_state: AnchorState) -> bytes:
    name = "anchor_key" if anchor_state == "text" else "state_key"
    digest: bytes = getattr(step, name)
    if len(digest) != 16:
        raise GroupFault(f"{name}: want 16 bytes, got {len(digest)}")
    return digest


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


def _scored(group: FinishedGroup, steps: list[Step], columns: _Columns, start: int, scoring: Scoring) -> ScoredGroup:
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
        diagnostics=_diagnostics(group, steps, columns, rows, labels, scoring.step_weight),
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
    step_weight: float,
) -> dict[str, float]:
    """Sums and counts, not means, so that those of many groups add up to those of a batch.

    `useful_anchor_rows` counts rows whose step group tells its actions apart: A^S is not 0.
    `step_group_largest` is the one maximum; `return_spread` is the difference between the best and the worst episode.
    """
    step_advantage = columns.step[rows].tolist()
    returns = [math.fsum(step.reward for step in episode.steps) for episode in group.episodes]
    sizes = [0] * (max(labels, default=-1) + 1)
    for label in labels:
        sizes[label] += 1
    return {
        "episodes": float(len(group.episodes)),
        "steps": float(len(steps)),
        "won": float(sum(episode.won for episode in group.episodes)),
        "return_sum": math.fsum(returns),
        "return_spread": max(returns, default=0.0) - min(returns, default=0.0),
        "invalid_steps": float(sum(not step.action_valid for step in steps)),
        "abs_episode_advantage_sum": math.fsum(map(abs, columns.episode[rows].tolist())),
        "abs_step_advantage_sum": math.fsum(abs(step_weight * value) for value in step_advantage),
        "step_groups": float(len(sizes)),
        "step_group_largest": float(max(sizes, default=0)),
        "shared_anchor_rows": float(sum(sizes[label] > 1 for label in labels)),
        "useful_anchor_rows": float(sum(value != 0.0 for value in step_advantage)),
        **_rows_by_size(sizes),
    }


def _rows_by_size(sizes: Sequence[int]) -> dict[str, float]:
    """`step_group_rows_<least>`: rows in step groups of at least that size and below the next bin's."""
    rows = dict.fromkeys(STEP_GROUP_BINS, 0)
    for size in sizes:
        rows[max(least for least in STEP_GROUP_BINS if least <= size)] += size
    return {f"step_group_rows_{least}": float(count) for least, count in rows.items()}
