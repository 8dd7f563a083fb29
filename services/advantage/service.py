"""The use case: score groups. A pure function of the groups' episodes and the job's algorithm; no I/O."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from torch import Tensor

from gigpo_core import AdvantageConfig, Advantages, GroupDiagnostics, StepBatch, compute_advantages, group_diagnostics
from services.contracts.algorithm import Algorithm, AnchorState
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
    batch = _step_batch(groups, rows, scoring, torch.device(device))
    advantages = compute_advantages(batch, scoring.config)
    measured = _measured(group_diagnostics(batch, scoring.config, advantages, STEP_GROUP_BINS))
    columns = _Columns.of(advantages)
    scored, start = [], 0
    for position, (group, steps) in enumerate(zip(groups, rows, strict=True)):
        place = slice(start, start + len(steps))
        scored.append(_scored(group, columns, place, {**_counts(group, steps), **measured.get(position, NOTHING)}))
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
    return StepBatch(
        group_id=torch.tensor(group_ids, dtype=torch.int64, device=device),
        episode_id=torch.tensor(episode_ids, dtype=torch.int64, device=device),
        step_index=torch.tensor([step.step_index for step in steps], dtype=torch.int64, device=device),
        anchor_key=_digests(steps, scoring.anchor_state).to(device),
        # the values of reward functions stand for the reward, which is their weighted sum
        reward=torch.tensor(
            [step.reward if components is None else 0.0 for step in steps], dtype=torch.float64, device=device
        ),
        action_valid=torch.tensor([step.action_valid for step in steps], dtype=torch.bool, device=device),
        anchor_text=[step.anchor for step in steps],
        success=torch.tensor(success, dtype=torch.bool, device=device),
        reward_components=components,
        state_key=_digests(steps, "exact").to(device),
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


def _digests(steps: Sequence[Step], anchor_state: AnchorState) -> Tensor:
    """int64 [N, 2] on the CPU: of what names each step's state."""
    name = "anchor_key" if anchor_state == "text" else "state_key"
    digests = [getattr(step, name) for step in steps]
    for digest in digests:
        if len(digest) != 16:
            raise GroupFault(f"{name}: want 16 bytes, got {len(digest)}")
    if not digests:
        return torch.zeros(0, 2, dtype=torch.int64)
    return torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.int64).view(-1, 2)


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


def _scored(group: FinishedGroup, columns: _Columns, rows: slice, diagnostics: dict[str, float]) -> ScoredGroup:
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
        diagnostics=diagnostics,
    )


def _bytes(column: Tensor) -> bytes:
    """Little-endian, whatever the machine."""
    values = column.contiguous().numpy()
    return bytes(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())


def _counts(group: FinishedGroup, steps: Sequence[Step]) -> dict[str, float]:
    """What the environment made of the group, whatever the algorithm; sums and counts."""
    return {
        "episodes": float(len(group.episodes)),
        "steps": float(len(steps)),
        "won": float(sum(episode.won for episode in group.episodes)),
        "return_sum": math.fsum(step.reward for step in steps),
        "invalid_steps": float(sum(not step.action_valid for step in steps)),
        "cut_prompts": float(sum(episode.cut_prompts for episode in group.episodes)),
    }


MEASURED = tuple(
    column.name for column in fields(GroupDiagnostics) if column.name not in {"group_id", "steps", "rows_by_size"}
)
"""Columns of `gigpo_core.GroupDiagnostics` that go into `ScoredGroup.diagnostics` as they are called."""
ROWS_BY_SIZE = tuple(f"step_group_rows_{least}" for least in STEP_GROUP_BINS)
NOTHING = dict.fromkeys((*MEASURED, *ROWS_BY_SIZE), 0.0)
"""Of a group without steps."""


def _measured(found: GroupDiagnostics) -> dict[int, dict[str, float]]:
    """Position of the group -> its diagnostics by name."""
    amounts = torch.stack([getattr(found, name).double() for name in MEASURED], 1)
    table = torch.cat([amounts, found.rows_by_size.double()], 1).tolist()  # one transfer; counts are exact in float64
    names = (*MEASURED, *ROWS_BY_SIZE)
    return {
        group: dict(zip(names, row, strict=True)) for group, row in zip(found.group_id.tolist(), table, strict=True)
    }
