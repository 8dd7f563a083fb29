"""Rollout corrections: the sampling engine's policy is not quite the trainer's.

rho_r = pi_old / pi_rollout, both for the same weights, or for the weights a step was sampled with
and those it is trained with. Source of modes and metrics: F. Yao et al., "Your efficient RL
framework secretly brings you off-policy training" (2025), and Y. Liu et al., "When speed kills
stability" (2025), under the names ms-swift uses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gigpo_core.kl import kl_estimate
from gigpo_core.options import CorrectionMode
from gigpo_core.tokens import row_means

MISMATCH_METRICS = (
    "kl",
    "k3_kl",
    "chi2_token",
    "chi2_sequence",
    "ess",
    "weight_mean",
    "clipped_fraction",
    "difference_max",
    "old_log_ppl",
    "rollout_log_ppl",
    "log_ppl_difference",
)
"""Names of the numbers that `mismatch_metrics` returns."""


def rollout_weights(
    old_log_prob: Tensor,
    rollout_log_prob: Tensor,
    token_row: Tensor,
    counts: Tensor,
    *,
    rows: int,
    mode: CorrectionMode,
    threshold: float = 2.0,
) -> Tensor:
    """Return the factor on each token's policy term.

    token_*: w = rho_r of the token. sequence_*: the geometric mean of rho_r over the row's counted
    tokens, on all its tokens. *_truncate: min(w, threshold). *_mask: w, or 0 where w > threshold.

    Args:
        old_log_prob: float [T], the trainer's, before the update.
        rollout_log_prob: float [T], the engine's.
        token_row: int64 [T].
        counts: float [T], 1 for tokens in the data.
        rows: N.
        mode: whose ratio, and what happens above the threshold.
        threshold: > 0.

    Returns:
        float [T], in [0, threshold], constant (no gradient); exactly 1 where both policies agree and threshold >= 1.
    """
    log_ratio = (old_log_prob - rollout_log_prob).detach()
    if mode.startswith("sequence"):
        log_ratio = row_means(log_ratio, token_row, rows, counts).index_select(0, token_row)
    weight = torch.exp(log_ratio)
    if mode.endswith("truncate"):
        return weight.clamp(max=threshold)
    return torch.where(weight <= threshold, weight, 0.0)  # a product would be NaN for an infinite weight


def off_policy_sequence_mask(
    log_prob: Tensor, behaviour_log_prob: Tensor, token_row: Tensor, counts: Tensor, advantage: Tensor, *, delta: float
) -> Tensor:
    """Return 0 on rows with a negative advantage that the policy has moved away from, 1 elsewhere.

    A row is silenced if A < 0 and the mean over its tokens of log pi_behaviour - log pi is above
    delta. Source: DeepSeek-V3.2 (arXiv:2512.02556), "off-policy sequence masking".

    Args:
        log_prob: float [T], the policy in training.
        behaviour_log_prob: float [T], the policy that sampled (rollout, or old if that is unknown).
        token_row: int64 [T].
        counts: float [T].
        advantage: float [N].
        delta: nats per token.

    Returns:
        float [T] of 0 and 1, constant.
    """
    drift = row_means((behaviour_log_prob - log_prob).detach(), token_row, len(advantage), counts)
    silenced = (advantage < 0) & (drift > delta)
    return (~silenced).to(log_prob.dtype).index_select(0, token_row)


def mismatch_metrics(
    old_log_prob: Tensor,
    rollout_log_prob: Tensor,
    token_row: Tensor,
    counts: Tensor,
    *,
    rows: int,
    threshold: float = 2.0,
) -> dict[str, float]:
    """Return how far the engine's log-probabilities are from the trainer's, over a whole batch.

    kl and k3_kl: of the two policies at sampled tokens, nats per token, from the rollout's side
    (E[log pi_rollout - log pi_old]), so that kl is an estimate of KL(rollout || old) >= 0 in the mean.
    chi2_token, chi2_sequence: E[rho_r^2] - 1. ess: (sum w)^2 / (n sum w^2) of token weights, 1 if all
    are equal. weight_mean, clipped_fraction (share of tokens above the threshold), largest
    |difference|, and mean per-row log perplexities of both and their difference (nats per token).

    Args:
        old_log_prob: float [T], the trainer's.
        rollout_log_prob: float [T], the engine's.
        token_row: int64 [T].
        counts: float [T], 1 for tokens in the data. Rows without any are left out.
        rows: N.
        threshold: > 0, above which a token's weight counts as clipped.

    Returns:
        Plain numbers; all 0 (ess and weight_mean 1) if nothing is counted.
    """
    live = counts > 0
    log_ratio = (old_log_prob - rollout_log_prob).detach().to(torch.float64)
    number = float(live.sum())
    if number == 0:
        return {name: float(name in ("ess", "weight_mean")) for name in MISMATCH_METRICS}
    token = log_ratio[live]
    weight = torch.exp(token)
    wide = counts.to(torch.float64)
    present = torch.bincount(token_row[live], minlength=rows) > 0
    sequence = row_means(log_ratio, token_row, rows, wide)[present]
    old = -row_means(old_log_prob.detach().to(torch.float64), token_row, rows, wide)[present]
    rollout = -row_means(rollout_log_prob.detach().to(torch.float64), token_row, rows, wide)[present]
    zero = torch.zeros_like(token)
    return {
        "kl": float(-token.mean()),
        "k3_kl": float(kl_estimate(zero, token, "k3").mean()),
        "chi2_token": float(weight.square().mean() - 1),
        "chi2_sequence": float(torch.exp(2 * sequence).mean() - 1),
        "ess": float(weight.sum().square() / (number * weight.square().sum())),
        "weight_mean": float(weight.mean()),
        "clipped_fraction": float((weight > threshold).sum()) / number,
        "difference_max": float(token.abs().max()),
        "old_log_ppl": float(old.mean()),
        "rollout_log_ppl": float(rollout.mean()),
        "log_ppl_difference": float((old - rollout).mean()),
    }
