"""The second scoring stage, at the cut of a batch: advantages whose scale spans the batch or whose rewards hold the KL.

A complete group is first scored alone; only here all groups of a batch and the reference policy are together. The
result replaces the groups' scores, so the manifest holds its hash, a successor that replays the manifest must compute
the same bytes, and the archive shows the trained advantages.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor

from gigpo_core import AdvantageConfig, compute_advantages
from services.contracts.algorithm import advantage_values
from services.contracts.job import JobSpec
from services.contracts.messages import encode
from services.step_batch import step_batch
from services.trainer.groups.payloads import Payload

Divergences = Sequence[Sequence[float]]
"""The k1 estimate of the KL to the reference policy, of each row of each group in order, nats."""


def scored_together(groups: Sequence[Payload], spec: JobSpec, kl: Divergences | None = None) -> list[Payload]:
    """The groups of a batch with the advantages that they have in it; unchanged where nothing is left to this stage.

    A pure function of the stored episodes, the spec and `kl`: equal groups in equal order give equal bytes.

    Args:
        kl: wanted where the spec takes the KL from the rewards.

    Raises:
        GigpoError, GroupFault: a group's rows are wrong, or the KL is wanted and not there.
    """
    config = AdvantageConfig(**advantage_values(spec.algorithm, spec.rewards))
    if not (config.spans_batch or config.subtracts_kl):
        return list(groups)
    flat = None if kl is None else [value for group in kl for value in group]
    batch = step_batch([group.episodes for group in groups], len(spec.rewards.reward_funcs), kl=flat)
    found = compute_advantages(batch, config)
    sizes = [sum(len(episode.steps) for episode in group.episodes) for group in groups]
    columns = {name: torch.split(getattr(found, name), sizes) for name in COLUMNS}
    return [
        _rescored(group, {name: parts[place] for name, parts in columns.items()}, config.step_weight)
        for place, group in enumerate(groups)
    ]


COLUMNS = ("advantage", "episode_advantage", "step_advantage", "step_return")
"""The columns of `Advantages` and of `ScoredGroup` that this stage replaces."""


def _rescored(group: Payload, columns: dict[str, Tensor], step_weight: float) -> Payload:
    """The group with these columns; what else was measured of it, such as the spread of its returns, stays."""
    step = columns["step_advantage"]
    sums = {
        "useful_anchor_rows": float((step != 0).sum()),
        "abs_episode_advantage_sum": float(columns["episode_advantage"].abs().sum()),
        "abs_step_advantage_sum": float((step_weight * step).abs().sum()),
    }
    packed: dict[str, Any] = {name: _bytes(column) for name, column in columns.items()}
    scored = msgspec.structs.replace(group.scored, **packed, diagnostics={**group.scored.diagnostics, **sums})
    return Payload(encode(scored), group.episode_payloads, scored, group.episodes)


def _bytes(column: Tensor) -> bytes:
    return struct.pack(f"<{len(column)}d", *column.tolist())
