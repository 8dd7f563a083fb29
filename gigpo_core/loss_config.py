"""The settings of a loss, checked once when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from gigpo_core.corrections import CorrectionMode
from gigpo_core.errors import ConfigError
from gigpo_core.kl import KlEstimator
from gigpo_core.ratios import ImportanceLevel

LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "real", "fipo"]
Reduction = Literal["grpo", "bnpo", "dr_grpo", "dapo"]

CLIPPED = frozenset({"grpo", "bnpo", "dr_grpo", "dapo", "fipo"})
"""Losses with the clipped policy term; they differ in the reduction, and fipo in a weight."""


@dataclass(frozen=True)
class LossConfig:
    """How a loss is computed. Frozen; every field is checked on construction.

    Raises:
        ConfigError: a value out of range, or a combination that means nothing.
    """

    loss_type: LossType = "grpo"
    epsilon: float = 0.2
    """Clip range below 1, >= 0."""
    epsilon_high: float | None = None
    """Clip range above 1; None: epsilon. For cispo the cap on the ratio itself (say 5.0), required."""
    delta: float | None = None
    """Cap on the unclipped ratio, > 1 + epsilon_high; None: no cap. Only for clipped losses."""
    importance_sampling_level: ImportanceLevel = "token"
    beta: float = 0.04
    """Weight of the KL term, >= 0. It is there if `TokenBatch.reference_log_prob` is."""
    kl_estimator: KlEstimator = "k3"
    entropy_weight: float = 0.0
    """Weight of the entropy bonus, subtracted from the loss; needs `TokenBatch.entropy` unless 0."""
    max_completion_length: int = 512
    """Tokens; the fixed divisor of dr_grpo."""
    tau_pos: float = 1.0
    tau_neg: float = 1.05
    """sapo: temperatures of the gate for positive and negative advantages, > 0."""
    real_tau: float = 0.5
    """real: temperature of the classification logits, > 0."""
    fipo_decay_rate: float = 32.0
    """fipo: tokens after which a future token counts half, > 0."""
    fipo_clip_range: float | None = 0.2
    """fipo: bound on the influence weight's distance from 1; None: no bound."""
    fipo_clip_high_only: bool = True
    """fipo: the weight never falls below 1."""
    fipo_safety_threshold: float | None = 4.0
    """fipo: tokens with A < 0 and a ratio above this get a weight in [0.8, 1]; None: no such rule."""
    rollout_importance_sampling_mode: CorrectionMode | None = None
    """Needs `TokenBatch.rollout_log_prob` unless None."""
    rollout_importance_sampling_threshold: float = 2.0
    off_policy_sequence_mask_delta: float | None = None
    """Silence rows with A < 0 that the policy has moved away from by more, nats per token; None: none."""

    def __post_init__(self) -> None:
        choices = {
            "loss_type": get_args(LossType),
            "importance_sampling_level": get_args(ImportanceLevel),
            "kl_estimator": get_args(KlEstimator),
            "rollout_importance_sampling_mode": (None, *get_args(CorrectionMode)),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}: want one of {', '.join(map(str, allowed))}, got {getattr(self, name)!r}")
        self._check_numbers()
        self._check_combination()

    def _check_numbers(self) -> None:
        optional = ("epsilon_high", "fipo_clip_range", "fipo_safety_threshold", "off_policy_sequence_mask_delta")
        for name in ("epsilon", "beta", "entropy_weight", "rollout_importance_sampling_threshold", *optional):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}: want a finite number >= 0, got {value}")
        for name in ("tau_pos", "tau_neg", "real_tau", "fipo_decay_rate"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name}: want a finite number > 0, got {value}")
        if self.max_completion_length < 1:
            raise ConfigError(f"max_completion_length: want at least 1 token, got {self.max_completion_length}")

    def _check_combination(self) -> None:
        if self.loss_type == "cispo" and self.epsilon_high is None:
            raise ConfigError("epsilon_high: cispo caps the ratio itself there; want a number such as 5.0, got None")
        if self.delta is not None:
            if self.loss_type not in CLIPPED:
                raise ConfigError(f"delta: {self.loss_type} has no clipped term to cap; leave it out")
            if self.delta <= 1.0 + self.upper:
                raise ConfigError(f"delta: want more than 1 + epsilon_high = {1.0 + self.upper:g}, got {self.delta}")
        if self.loss_type in ("sapo", "real") and self.importance_sampling_level != "token":
            raise ConfigError(
                f"importance_sampling_level: {self.loss_type} wants 'token', got {self.importance_sampling_level!r}"
            )
        if self.loss_type == "real" and (
            self.rollout_importance_sampling_mode is not None or self.off_policy_sequence_mask_delta is not None
        ):
            raise ConfigError("real compares whole rows and has no per-token term that a correction could weigh")

    @property
    def upper(self) -> float:
        """`epsilon_high` after its default."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    @property
    def reduction(self) -> Reduction:
        """How tokens are averaged: sapo like grpo; cispo, fipo (and the KL of real) like dapo."""
        if self.loss_type in ("grpo", "sapo"):
            return "grpo"
        if self.loss_type in ("bnpo", "dr_grpo"):
            return self.loss_type
        return "dapo"
