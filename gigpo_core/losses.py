"""The policy term of each loss, per token, and the reductions to one number.

All take and return flat tokens (see `gigpo_core.tokens`). A is the advantage of the token's row,
rho = pi / pi_old its importance ratio. A loss is to be minimised.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.errors import ConfigError
from gigpo_core.loss_config import LossConfig, Reduction
from gigpo_core.ratios import MAX_LOG_RATIO, importance_ratio
from gigpo_core.returns import discounted_returns
from gigpo_core.segments import segments_of_sorted
from gigpo_core.tokens import BatchTotals, TokenBatch, row_means, row_sums


@dataclass(frozen=True)
class PolicyTerms:
    """The input of every loss: the T tokens of a micro-batch's N rows."""

    tokens: TokenBatch
    config: LossConfig
    log_ratio: Tensor
    """float [T], log rho as `importance_sampling_level` says, carries the gradient."""
    advantage: Tensor
    """float [T], of each token's row."""
    counts: Tensor
    """float [T], 1 for tokens in the data."""


def clipped(terms: PolicyTerms) -> Tensor:
    """The clipped term, float [T]; grpo, bnpo, dr_grpo and dapo differ in the reduction alone."""
    config = terms.config
    return clipped_loss(
        terms.log_ratio, terms.advantage, epsilon=config.epsilon, epsilon_high=config.upper, delta=config.delta
    )


def cispo(terms: PolicyTerms) -> Tensor:
    """The term of cispo, float [T]."""
    return cispo_loss(terms.log_ratio, terms.tokens.log_prob, terms.advantage, cap=terms.config.upper)


def sapo(terms: PolicyTerms) -> Tensor:
    """The term of sapo, float [T]."""
    config = terms.config
    return sapo_loss(terms.log_ratio, terms.advantage, tau_pos=config.tau_pos, tau_neg=config.tau_neg)


def fipo(terms: PolicyTerms) -> Tensor:
    """The clipped term times fipo's weight, float [T]."""
    config = terms.config
    return clipped(terms) * fipo_weight(
        terms.log_ratio,
        terms.advantage,
        terms.tokens.token_row,
        terms.counts,
        decay_rate=config.fipo_decay_rate,
        clip_range=config.fipo_clip_range,
        high_only=config.fipo_clip_high_only,
        safety_threshold=config.fipo_safety_threshold,
        delta=config.delta,
    )


def real(terms: PolicyTerms) -> Tensor:
    """The sum of real over whole groups, float [].

    Raises:
        ConfigError: the tokens name no groups, or weigh tokens one by one.
    """
    tokens = terms.tokens
    if tokens.row_group is None:
        raise ConfigError("real: want TokenBatch.row_group and BatchTotals.groups, got none")
    if tokens.token_weight is not None:
        raise ConfigError("real: compares whole rows, so there is no per-token term for token_weight")
    scores = row_means(terms.log_ratio, tokens.token_row, tokens.rows, terms.counts)
    present = row_sums(terms.counts, tokens.token_row, tokens.rows) > 0
    return real_loss(scores, tokens.advantage, tokens.row_group, present, tau=terms.config.real_tau)


def clipped_loss(
    log_ratio: Tensor, advantage: Tensor, *, epsilon: float, epsilon_high: float, delta: float | None = None
) -> Tensor:
    """Return -min(min(rho, delta) A, clip(rho, 1-epsilon, 1+epsilon_high) A) per token.

    Sources: PPO (arXiv:1707.06347, eq. 7); separate upper bound: DAPO (arXiv:2503.14476, eq. 10);
    the cap `delta` on the unclipped ratio, which bounds the loss for A < 0: dual-clip PPO
    (arXiv:1912.09729) and INTELLECT-2 (arXiv:2505.07291).

    Args:
        log_ratio: float [T], log rho, carries the gradient.
        advantage: float [T].
        epsilon, epsilon_high: clip range below and above 1.
        delta: None, or > 1 + epsilon_high.

    Returns:
        float [T], finite. The gradient is 0 where the clipped term is the smaller one, and beyond a ratio of e^30.
    """
    ratio = importance_ratio(log_ratio)
    clipped = torch.clamp(ratio, 1.0 - epsilon, 1.0 + epsilon_high)
    unclipped = ratio if delta is None else torch.clamp(ratio, max=delta)
    return -torch.minimum(unclipped * advantage, clipped * advantage)


def cispo_loss(log_ratio: Tensor, log_prob: Tensor, advantage: Tensor, *, cap: float) -> Tensor:
    """Return -sg(min(rho, cap)) A log pi per token: no token loses its gradient.

    Source: CISPO (MiniMax-M1, arXiv:2506.13585) with no lower bound, as it is used there.

    Args:
        log_ratio: float [T], log rho; its gradient is not used.
        log_prob: float [T], log pi, carries the gradient.
        advantage: float [T].
        cap: > 0, upper bound on rho.

    Returns:
        float [T], of the sign of A (log pi <= 0); 0 where A is 0.
    """
    return -importance_ratio(log_ratio.detach()).clamp(max=cap) * advantage * log_prob


def sapo_loss(log_ratio: Tensor, advantage: Tensor, *, tau_pos: float, tau_neg: float) -> Tensor:
    """Return -(4/tau) sigmoid(tau (rho - 1)) A per token, tau by the sign of A.

    Source: SAPO (arXiv:2511.20347). The gradient weight is 1 at rho = 1 and falls off
    smoothly on both sides instead of being clipped. A = 0 gives 0 with either tau.

    Args:
        log_ratio: float [T], log rho, carries the gradient.
        advantage: float [T].
        tau_pos, tau_neg: > 0.

    Returns:
        float [T], finite, at most 4 |A| / tau in size.
    """
    tau = torch.full_like(log_ratio, tau_neg).masked_fill(advantage > 0, tau_pos)
    return -(4.0 / tau) * torch.sigmoid(tau * torch.expm1(log_ratio.clamp(max=MAX_LOG_RATIO))) * advantage


def fipo_weight(
    log_ratio: Tensor,
    advantage: Tensor,
    token_row: Tensor,
    counts: Tensor,
    *,
    decay_rate: float,
    clip_range: float | None,
    high_only: bool,
    safety_threshold: float | None,
    delta: float | None,
) -> Tensor:
    """Return the influence weight of each token's future: exp of the discounted sum of log rho.

    F_t = sum_{k >= t} 2^(-(k-t)/decay_rate) log rho_k over the row's counted tokens from t on, without
    those with rho > delta. The weight is exp(F_t), clipped to [1 - range, 1 + range] (or [1, 1 + range]),
    and to [0.8, 1] where A < 0 and rho > safety_threshold. Source: FIPO (arXiv:2603.19835), with the
    switches and defaults of ms-swift.

    Args:
        log_ratio: float [T].
        advantage: float [T].
        token_row: int64 [T]; the position of a token is its place among all tokens of the row.
        counts: float [T], 1 for tokens in the data.
        decay_rate: > 0, tokens after which a future token counts half.
        clip_range: >= 0; None: no bound but e^30.
        high_only: the weight never falls below 1.
        safety_threshold: >= 0; None: no such rule.
        delta: > 1; None: all tokens count.

    Returns:
        float [T], > 0, constant; 1 everywhere while the policy is the old one.
    """
    log_ratio = log_ratio.detach()
    ratio = importance_ratio(log_ratio)
    moved = log_ratio * counts
    if delta is not None:
        moved = moved * (ratio <= delta)
    if len(token_row):
        runs = segments_of_sorted(token_row[1:] != token_row[:-1], token_row.device)
        position = torch.arange(len(token_row), device=token_row.device) - runs.broadcast(runs.start)
        longest = int(runs.count.max())
        moved = discounted_returns(moved, runs, position, 2.0 ** (-1.0 / decay_rate), longest=longest)
    weight = importance_ratio(moved)
    if clip_range is not None:
        weight = weight.clamp(1.0 if high_only else 1.0 - clip_range, 1.0 + clip_range)
    if safety_threshold is not None:
        unsafe = (advantage < 0) & (ratio > safety_threshold)
        weight = torch.where(unsafe, weight.clamp(0.8, 1.0), weight)
    return weight


def real_loss(scores: Tensor, advantage: Tensor, row_group: Tensor, present: Tensor, *, tau: float) -> Tensor:
    """Return the sum over groups of log(1 + sum_+ exp(-s/tau)) + log(1 + sum_- exp(s/tau)).

    Source: REAL, "Rewards as labels" (arXiv:2602.05630). s is the mean log-ratio of a row. Rows with
    A > 0 are positives, the others negatives (as in ms-swift); a group without both gives 0.

    Args:
        scores: float [N], carries the gradient.
        advantage: float [N].
        row_group: int64 [N], >= 0; the rows of a group must all be here.
        present: bool [N]: rows with counted tokens; others take no part.
        tau: > 0.

    Returns:
        float []: not yet divided by the number of groups.
    """
    groups, index = torch.unique(row_group, return_inverse=True)
    total = scores.new_zeros(())
    sides = ((advantage > 0) & present, (advantage <= 0) & present)
    both = torch.ones(len(groups), dtype=torch.bool, device=scores.device)
    for side in sides:
        both &= torch.bincount(index[side], minlength=len(groups)) > 0
    for side, sign in zip(sides, (-1.0, 1.0), strict=True):
        chosen = side & both.index_select(0, index)
        logit, group = sign * scores[chosen] / tau, index[chosen]
        # log(1 + sum exp) with the largest term (or 0) taken out, so that no logit overflows.
        top = logit.new_zeros(len(groups)).scatter_reduce(0, group, logit.detach(), "amax")
        rest = torch.exp(-top).index_add(0, group, torch.exp(logit - top.index_select(0, group)))
        total = total + (top + torch.log(rest))[both].sum()
    return total


def reduce_tokens(
    values: Tensor,
    token_row: Tensor,
    counts: Tensor,
    *,
    totals: BatchTotals,
    rows: int,
    reduction: Reduction,
    max_completion_length: int,
) -> Tensor:
    """Return this micro-batch's share of the mean over the whole optimizer batch: one number.

    Sources: "grpo", mean over rows of the mean over the row's tokens (arXiv:2402.03300);
    "dr_grpo", sum / (rows x max_completion_length) (arXiv:2503.20783); "dapo", sum / all tokens
    (arXiv:2503.14476). "bnpo" is the mean over the batch's tokens as well: where others divide by
    the tokens of one micro-batch or rank, so that accumulation changes the gradient, here both
    names mean the whole batch and give one result.

    Args:
        values: float [T], per-token loss.
        token_row: int64 [T].
        counts: float [T], 1 for tokens in the data.
        totals: of the whole optimizer batch; not of this micro-batch alone.
        rows: N of this micro-batch.
        reduction: which mean.
        max_completion_length: tokens; only dr_grpo divides by it.

    Returns:
        float []: shares of micro-batches and ranks add up to the mean. 0 if nothing is counted.
    """
    if reduction == "grpo":
        return row_means(values, token_row, rows, counts).sum() / max(totals.rows, 1.0)
    total = (values * counts).sum()
    if reduction == "dr_grpo":
        return total / max(totals.rows * max_completion_length, 1.0)
    return total / max(totals.tokens, 1.0)
