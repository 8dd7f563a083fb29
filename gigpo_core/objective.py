"""The entry point of the losses: tokens and a config in, one differentiable number out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.corrections import off_policy_sequence_mask, rollout_weights
from gigpo_core.errors import ConfigError
from gigpo_core.kl import kl_estimate
from gigpo_core.loss_config import LossConfig
from gigpo_core.losses import PolicyTerms, reduce_tokens
from gigpo_core.ratios import MAX_LOG_RATIO, importance_log_ratio, importance_ratio
from gigpo_core.tokens import BatchTotals, TokenBatch


@dataclass(frozen=True)
class Objective:
    """A micro-batch's share of the loss of its optimizer batch, and of its metrics."""

    loss: Tensor
    """float []: call backward on it. Shares of micro-batches and ranks add up."""
    policy_loss: Tensor
    """float [], constant: the loss without KL and entropy, a share too."""
    names: tuple[str, ...]
    """Names of the M metrics: ratio, policy_kl (k3, old to new); clip_low and clip_high (share of tokens whose gradient
    the clip removed; for cispo whose weight it capped) where the loss has them; reference_kl, entropy and policy_weight
    where given. The same for every micro-batch of a batch."""
    shares: Tensor
    """float [M], constant: add them over micro-batches and ranks to get the means over the batch's tokens."""

    @property
    def metrics(self) -> dict[str, float]:
        """Name -> share; on a device the host waits for the loss here, so read it once a batch."""
        return dict(zip(self.names, self.shares.tolist(), strict=True))


def policy_objective(tokens: TokenBatch, config: LossConfig, totals: BatchTotals) -> Objective:
    """Return the loss of a micro-batch: policy term + beta KL - entropy_coef x entropy.

    A pure function: calling it on parts of a batch with the totals of the whole and adding the
    results gives the loss, the gradient and the metrics of the whole. The host does not wait for a
    device here, fipo and real apart.

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
    metrics = _ratio_metrics(log_ratio.detach(), advantage, config)
    terms = PolicyTerms(tokens, config, log_ratio, advantage, counts)
    per_token = torch.zeros_like(log_ratio) if config.row.whole_groups else config.row.policy_term(terms)
    weight = policy_weight(tokens, config, counts)
    if weight is not None:
        per_token = per_token * weight
        metrics["policy_weight"] = weight
    policy_alone = _reduced(per_token.detach(), tokens, config, totals, counts)
    loss = _reduced(per_token + _regularisers(tokens, config, metrics), tokens, config, totals, counts)
    if config.row.whole_groups:
        policy = _share_of_groups(terms, totals)
        loss, policy_alone = loss + policy, policy_alone + policy.detach()
    shares = torch.stack([value.detach() for value in metrics.values()]) @ (counts / max(totals.tokens, 1.0))
    return Objective(loss, policy_alone, tuple(metrics), shares)


def policy_weight(tokens: TokenBatch, config: LossConfig, counts: Tensor) -> Tensor | None:
    """Return the constant factor on each token's policy term, float [T], or None for 1 everywhere.

    The product of `TokenBatch.token_weight`, the rollout correction and the off-policy sequence mask.

    Args:
        tokens: the T tokens of N whole rows, already checked.
        config: which corrections.
        counts: float [T], 1 for tokens in the data.

    Raises:
        ConfigError: a rollout correction is asked for, and the tokens have no rollout_log_prob.
    """
    factors = []
    if tokens.token_weight is not None:
        factors.append(tokens.token_weight.to(tokens.log_prob.dtype))
    if config.rollout_importance_sampling_mode is not None:
        if tokens.rollout_log_prob is None:
            raise ConfigError(
                "rollout_importance_sampling_mode: want None, or TokenBatch.rollout_log_prob, got neither"
            )
        factors.append(
            rollout_weights(
                tokens.old_log_prob,
                tokens.rollout_log_prob,
                tokens.token_row,
                counts,
                rows=tokens.rows,
                mode=config.rollout_importance_sampling_mode,
                threshold=config.rollout_importance_sampling_threshold,
            )
        )
    if config.off_policy_sequence_mask_delta is not None:
        behaviour = tokens.old_log_prob if tokens.rollout_log_prob is None else tokens.rollout_log_prob
        delta = config.off_policy_sequence_mask_delta
        factors.append(
            off_policy_sequence_mask(
                tokens.log_prob, behaviour, tokens.token_row, counts, tokens.advantage, delta=delta
            )
        )
    return torch.stack(factors).prod(0) if factors else None


def _reduced(per_token: Tensor, tokens: TokenBatch, config: LossConfig, totals: BatchTotals, counts: Tensor) -> Tensor:
    return reduce_tokens(
        per_token,
        tokens.token_row,
        counts,
        totals=totals,
        rows=tokens.rows,
        reduction=config.reduction,
        max_completion_length=config.max_completion_length,
    )


def _regularisers(tokens: TokenBatch, config: LossConfig, metrics: dict[str, Tensor]) -> Tensor:
    """Return beta KL - entropy_coef x entropy, float [T], and note both in the metrics."""
    total = torch.zeros_like(tokens.old_log_prob)
    if tokens.reference_log_prob is not None and config.beta > 0:
        divergence = kl_estimate(tokens.log_prob, tokens.reference_log_prob, config.kl_estimator)
        total = total + config.beta * divergence
        metrics["reference_kl"] = divergence
    if tokens.entropy is not None:
        metrics["entropy"] = tokens.entropy
        if config.entropy_coef > 0:
            total = total - config.entropy_coef * tokens.entropy
    elif config.entropy_coef > 0:
        raise ConfigError("entropy_coef: want 0, or TokenBatch.entropy, got neither")
    return total


def _share_of_groups(terms: PolicyTerms, totals: BatchTotals) -> Tensor:
    name = terms.config.loss_type
    if totals.groups <= 0:
        raise ConfigError(f"{name}: want TokenBatch.row_group and BatchTotals.groups, got none")
    return terms.config.row.policy_term(terms) / totals.groups


def _ratio_metrics(log_ratio: Tensor, advantage: Tensor, config: LossConfig) -> dict[str, Tensor]:
    ratio = importance_ratio(log_ratio)
    bounded = log_ratio.clamp(max=MAX_LOG_RATIO)
    metrics = {"ratio": ratio, "policy_kl": kl_estimate(torch.zeros_like(bounded), bounded, "k3")}
    if config.row.clips == "both":
        metrics["clip_low"] = ((ratio < 1.0 - config.epsilon) & (advantage < 0)).to(ratio.dtype)
        metrics["clip_high"] = ((ratio > 1.0 + config.upper) & (advantage > 0)).to(ratio.dtype)
    elif config.row.clips == "cap":
        metrics["clip_high"] = (ratio > config.upper).to(ratio.dtype)
    return metrics
