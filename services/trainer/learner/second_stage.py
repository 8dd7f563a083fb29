"""Advantages whose scale spans a batch or whose rewards hold the KL, computed once all of its groups are together."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor

from gigpo_core import AdvantageConfig, GigpoError, compute_advantages
from services.contracts.algorithm import advantage_values
from services.contracts.job import JobSpec
from services.contracts.messages import ScoredGroup
from services.step_batch import GroupFault, step_batch
from services.trainer.learner.errors import RowsError
from services.trainer.learner.port import Divergences, Scored

COLUMNS = ("advantage", "episode_advantage", "step_advantage", "step_return")
"""The columns of `Advantages` and of `ScoredGroup` that this stage replaces."""


def rescored(groups: Sequence[Scored], spec: JobSpec, kl: Divergences | None) -> list[ScoredGroup]:
    """The scores that the groups of a batch have together; a pure function.

    Args:
        kl: of each group, of each of its rows; wanted where the spec takes the KL from the rewards.

    Raises:
        RowsError: a group's rows are wrong, or the KL is wanted and not there.
    """
    config = AdvantageConfig(**advantage_values(spec.algorithm, spec.rewards))
    flat = None if kl is None else [value for group in kl for value in group]
    try:
        batch = step_batch([episodes for _, episodes in groups], len(spec.rewards.reward_funcs), kl=flat)
        found = compute_advantages(batch, config)
    except (GigpoError, GroupFault) as error:
        raise RowsError(str(error)) from error
    sizes = [sum(len(episode.steps) for episode in episodes) for _, episodes in groups]
    columns = {name: torch.split(getattr(found, name), sizes) for name in COLUMNS}
    return [
        _replaced(scored, {name: parts[place] for name, parts in columns.items()}, config.step_weight)
        for place, (scored, _) in enumerate(groups)
    ]


def _replaced(scored: ScoredGroup, columns: dict[str, Tensor], step_weight: float) -> ScoredGroup:
    """The scores with these columns; what else was measured of the group, such as the spread of its returns, stays."""
    step = columns["step_advantage"]
    sums = {
        "useful_anchor_rows": float((step != 0).sum()),
        "abs_episode_advantage_sum": float(columns["episode_advantage"].abs().sum()),
        "abs_step_advantage_sum": float((step_weight * step).abs().sum()),
    }
    packed: dict[str, Any] = {name: _bytes(column) for name, column in columns.items()}
    return msgspec.structs.replace(scored, **packed, diagnostics={**scored.diagnostics, **sums})


def _bytes(column: Tensor) -> bytes:
    return struct.pack(f"<{len(column)}d", *column.tolist())
