"""The use case: score groups. A pure function of the groups' episodes and the job's algorithm; no I/O."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import torch

from gigpo_core import AdvantageConfig, Advantages, GroupDiagnostics, compute_advantages, group_diagnostics
from services.contracts.algorithm import Algorithm, advantage_values
from services.contracts.arrays import pack_float64, pack_int64
from services.contracts.ids import Purpose
from services.contracts.messages import STEP_GROUP_BINS, ContractError, Episode, ScoredGroup, Step, decode
from services.contracts.rewards import Rewards
from services.step_batch import GroupFault, rows_in_order, step_batch


@dataclass(frozen=True)
class FinishedGroup:
    """A complete group, decoded."""

    group_id: str
    purpose: Purpose
    cursor: int
    episodes: list[Episode]
    """The group's episodes in order of k."""
    episodes_sha: str


def advantage_config(algorithm: Algorithm, rewards: Rewards | None = None) -> AdvantageConfig:
    """A job's sections for a group alone: everything that its score depends on beside the episodes. Equal for jobs
    that may be scored together. A scale that spans the batch, and a KL in the reward, are left to the trainer, which
    scores the batch once more.
    """
    return AdvantageConfig(**advantage_values(algorithm, rewards)).alone()


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
    rows = [rows_in_order(group.episodes) for group in groups]
    batch = step_batch([group.episodes for group in groups], len(config.reward_weights or ()), device=device)
    advantages = compute_advantages(batch, config)
    measured = _measured(group_diagnostics(batch, config, advantages, STEP_GROUP_BINS))
    columns = _Columns.of(advantages)
    scored, start = [], 0
    for position, (group, steps) in enumerate(zip(groups, rows, strict=True)):
        place = slice(start, start + len(steps))
        scored.append(_scored(group, columns, place, {**_counts(group, steps), **measured.get(position, NOTHING)}))
        start += len(steps)
    return scored


@dataclass(frozen=True)
class _Columns:
    """`Advantages` on the host."""

    advantage: list[float]
    episode: list[float]
    step: list[float]
    returns: list[float]
    labels: list[int]

    @staticmethod
    def of(found: Advantages) -> _Columns:
        return _Columns(
            found.advantage.tolist(),
            found.episode_advantage.tolist(),
            found.step_advantage.tolist(),
            found.step_return.tolist(),
            found.step_group.tolist(),
        )


def _scored(group: FinishedGroup, columns: _Columns, rows: slice, diagnostics: dict[str, float]) -> ScoredGroup:
    dense: dict[int, int] = {}
    labels = [dense.setdefault(label, len(dense)) for label in columns.labels[rows]]
    return ScoredGroup(
        group_id=group.group_id,
        purpose=group.purpose,
        cursor=group.cursor,
        advantage=pack_float64(columns.advantage[rows]),
        episode_advantage=pack_float64(columns.episode[rows]),
        step_advantage=pack_float64(columns.step[rows]),
        step_return=pack_float64(columns.returns[rows]),
        step_group=pack_int64(labels),
        episodes_sha=group.episodes_sha,
        diagnostics=diagnostics,
    )


def _counts(group: FinishedGroup, steps: Sequence[Step]) -> dict[str, float]:
    """Sums and counts of the group's episodes, whatever the algorithm."""
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
"""The diagnostics of a group without steps."""


def _measured(found: GroupDiagnostics) -> dict[int, dict[str, float]]:
    """Position of the group -> its diagnostics by name."""
    amounts = torch.stack([getattr(found, name).double() for name in MEASURED], 1)
    table = torch.cat([amounts, found.rows_by_size.double()], 1).tolist()  # one transfer; counts are exact in float64
    names = (*MEASURED, *ROWS_BY_SIZE)
    return {
        group: dict(zip(names, row, strict=True)) for group, row in zip(found.group_id.tolist(), table, strict=True)
    }
