"""The mathematics of training agents with GiGPO: torch and the standard library, nothing else.

`gigpo_core.digest`, the options and the errors load without torch; every other name imports torch on first use, so an
environment process that only digests anchors stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gigpo_core.digest import action_digest, anchor_digest, anchor_digests
from gigpo_core.errors import (
    ConfigError,
    DtypeError,
    DuplicateStepError,
    EpisodeGroupError,
    GigpoError,
    MissingStepError,
    NegativeIdError,
    NonFiniteRewardError,
    RowError,
    ShapeError,
)

if TYPE_CHECKING:
    from gigpo_core.advantages import Advantages, compute_advantages
    from gigpo_core.anchors import anchor_keys
    from gigpo_core.batch import StepBatch
    from gigpo_core.config import AdvantageConfig
    from gigpo_core.corrections import mismatch_metrics, rollout_weights
    from gigpo_core.diagnostics import GroupDiagnostics, group_diagnostics
    from gigpo_core.loss_config import LossConfig
    from gigpo_core.masks import entropy_threshold, high_entropy_mask, overlong_filter
    from gigpo_core.objective import Objective, policy_objective
    from gigpo_core.packing import MicroBatch, plan_micro_batches
    from gigpo_core.tokens import BatchTotals, TokenBatch, batch_totals
    from gigpo_core.turns import Turn, lone_turn

_HOME = {
    "AdvantageConfig": "config",
    "Advantages": "advantages",
    "BatchTotals": "tokens",
    "GroupDiagnostics": "diagnostics",
    "LossConfig": "loss_config",
    "MicroBatch": "packing",
    "Objective": "objective",
    "StepBatch": "batch",
    "TokenBatch": "tokens",
    "Turn": "turns",
    "anchor_keys": "anchors",
    "batch_totals": "tokens",
    "compute_advantages": "advantages",
    "entropy_threshold": "masks",
    "group_diagnostics": "diagnostics",
    "high_entropy_mask": "masks",
    "lone_turn": "turns",
    "mismatch_metrics": "corrections",
    "overlong_filter": "masks",
    "plan_micro_batches": "packing",
    "policy_objective": "objective",
    "rollout_weights": "corrections",
}

__all__ = [
    "AdvantageConfig",
    "Advantages",
    "BatchTotals",
    "ConfigError",
    "DtypeError",
    "DuplicateStepError",
    "EpisodeGroupError",
    "GigpoError",
    "GroupDiagnostics",
    "LossConfig",
    "MicroBatch",
    "MissingStepError",
    "NegativeIdError",
    "NonFiniteRewardError",
    "Objective",
    "RowError",
    "ShapeError",
    "StepBatch",
    "TokenBatch",
    "Turn",
    "action_digest",
    "anchor_digest",
    "anchor_digests",
    "anchor_keys",
    "batch_totals",
    "compute_advantages",
    "entropy_threshold",
    "group_diagnostics",
    "high_entropy_mask",
    "lone_turn",
    "mismatch_metrics",
    "overlong_filter",
    "plan_micro_batches",
    "policy_objective",
    "rollout_weights",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'gigpo_core' has no attribute {name!r}")
    return getattr(import_module(f"gigpo_core.{home}"), name)
