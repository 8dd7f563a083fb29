"""The door to the losses: tokens and a config in, one number to differentiate out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from gigpo_core.corrections import CorrectionMode, rollout_weights
from gigpo_core.errors import ConfigError
from gigpo_core.kl import KlEstimator, kl_estimate
from gigpo_core.losses import Reduction, clipped_loss, reduce_tokens
from gigpo_core.ratios import ImportanceLevel, importance_log_ratio
from gigpo_core.tokens import BatchTotals, TokenBatch

LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "real", "fipo"]

_REDUCTION: dict[str, Reduction] = {"grpo": "grpo", "bnpo": "bnpo", "dr_grpo": "dr_grpo", "dapo": "dapo"}


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
    """Clip range above 1; None: epsilon."""
    delta: float | None = None
    """Cap on the unclipped ratio, > 1 + epsilon_high; None: no cap."""
    importance_sampling_level: ImportanceLevel = "token"
    beta: float = 0.04
    """Weight of the KL term, >= 0. It is there if `TokenBatch.reference_log_prob` is."""
    kl_estimator: KlEstimator = "k3"
    entropy_weight: float = 0.0
    """Weight of the entropy bonus, subtracted from the loss; needs `TokenBatch.entropy` unless 0."""
    max_completion_length: int = 512
    """Tokens; the fixed divisor of dr_grpo."""
    rollout_importance_sampling_mode: CorrectionMode | None = None
    """Needs `TokenBatch.rollout_log_prob` unless None."""
    rollout_importance_sampling_threshold: float = 2.0

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
        for name in ("epsilon", "beta", "rollout_importance_sampling_threshold"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{name}: want a finite number >= 0, got {value}")
        if self.max_completion_length < 1:
            raise ConfigError(f"max_completion_length: want at least 1 token, got {self.max_completion_length}")
        if self.delta is not None and self.delta <= 1.0 + self.upper:
            raise ConfigError(f"delta: want more than 1 + epsilon_high = {1.0 + self.upper:g}, got {self.delta}")

    @property
    def upper(self) -> float:
        """The clip range above 1 after defaults."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high


@dataclass(frozen=True)
class Objective:
    """A micro-batch's share of the loss of its optimizer batch, and of its metrics."""

    loss: Tensor
    """float []: call backward on it. Shares of micro-batches and ranks add up."""
    metrics: dict[str, float]
    """Shares too: add them over micro-batches and ranks to get the mean over the batch's tokens.
    ratio, clip_low, clip_high (share of tokens whose gradient the clip removed), policy_kl (k3, old
    to new), and where given reference_kl, entropy, policy_weight."""


def policy_objective(tokens: TokenBatch, config: LossConfig, totals: BatchTotals) -> Objective:
    """Return the loss of a micro-batch: policy term + beta KL - entropy_weight x entropy.

    A pure function: calling it on parts of a batch with the totals of the whole and adding the
    results gives the loss, the gradient and the metrics of the whole.

    Args:
        tokens: the T tokens of N whole rows.
        config: which loss.
        totals: of the whole optimizer batch, from `batch_totals`, added over parts and ranks.

    Raises:
        ShapeError, DtypeError: a column of `tokens` is malformed.
        ConfigError: `tokens` lacks a column that `config` asks for.
    """
    tokens.check()
    counts = tokens.counts
    log_ratio = importance_log_ratio(
        tokens.log_prob,
        tokens.old_log_prob,
        tokens.token_row,
        counts,
        rows=tokens.rows,
        level=config.importance_sampling_level,
    )
    advantage = tokens.advantage.to(log_ratio.dtype).index_select(0, tokens.token_row)
    per_token = clipped_loss(
        log_ratio, advantage, epsilon=config.epsilon, epsilon_high=config.upper, delta=config.delta
    )
    metrics = _ratio_metrics(log_ratio.detach(), advantage, config)
    weight = policy_weight(tokens, config, counts)
    if weight is not None:
        per_token = per_token * weight
        metrics["policy_weight"] = weight
    if tokens.reference_log_prob is not None and config.beta > 0:
        divergence = kl_estimate(tokens.log_prob, tokens.reference_log_prob, config.kl_estimator)
        per_token = per_token + config.beta * divergence
        metrics["reference_kl"] = divergence
    if config.entropy_weight != 0.0 and tokens.entropy is None:
        raise ConfigError("entropy_weight: want 0, or TokenBatch.entropy, got neither")
    if tokens.entropy is not None:
        metrics["entropy"] = tokens.entropy
        if config.entropy_weight != 0.0:
            per_token = per_token - config.entropy_weight * tokens.entropy
    loss = reduce_tokens(
        per_token,
        tokens.token_row,
        counts,
        totals=totals,
        rows=tokens.rows,
        reduction=_REDUCTION[config.loss_type],
        max_completion_length=config.max_completion_length,
    )
    # One matrix product and one transfer, so that metrics cost a single wait on a device.
    shares = torch.stack([value.detach() for value in metrics.values()]) @ (counts / max(totals.tokens, 1.0))
    return Objective(loss, dict(zip(metrics, shares.tolist(), strict=True)))


def policy_weight(tokens: TokenBatch, config: LossConfig, counts: Tensor) -> Tensor | None:
    """Return the constant factor on each token's policy term, float [T], or None for 1 everywhere."""
    weight = None if tokens.token_weight is None else tokens.token_weight.to(tokens.log_prob.dtype)
    if config.rollout_importance_sampling_mode is None:
        return weight
    if tokens.rollout_log_prob is None:
        raise ConfigError("rollout_importance_sampling_mode: want None, or TokenBatch.rollout_log_prob, got neither")
    correction = rollout_weights(
        tokens.old_log_prob,
        tokens.rollout_log_prob,
        tokens.token_row,
        counts,
        rows=tokens.rows,
        mode=config.rollout_importance_sampling_mode,
        threshold=config.rollout_importance_sampling_threshold,
    )
    return correction if weight is None else weight * correction


def _ratio_metrics(log_ratio: Tensor, advantage: Tensor, config: LossConfig) -> dict[str, Tensor]:
    ratio = torch.exp(log_ratio)
    return {
        "ratio": ratio,
        "clip_low": ((ratio < 1.0 - config.epsilon) & (advantage < 0)).to(ratio.dtype),
        "clip_high": ((ratio > 1.0 + config.upper) & (advantage > 0)).to(ratio.dtype),
        "policy_kl": kl_estimate(torch.zeros_like(log_ratio), log_ratio, "k3"),
    }
