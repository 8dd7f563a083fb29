"""The policy term of each loss, per token, and the reductions to one number.

All take and return flat tokens (see `gigpo_core.tokens`). A is the advantage of the token's row,
rho = pi / pi_old its importance ratio. A loss is to be minimised.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from gigpo_core.tokens import BatchTotals, row_means

Reduction = Literal["grpo", "bnpo", "dr_grpo", "dapo"]


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
        float [T]. The gradient is 0 where the clipped term is the smaller one.
    """
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1.0 - epsilon, 1.0 + epsilon_high)
    unclipped = ratio if delta is None else torch.clamp(ratio, max=delta)
    return -torch.minimum(unclipped * advantage, clipped * advantage)


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

    Returns:
        float []: shares of micro-batches and ranks add up to the mean. 0 if nothing is counted.
    """
    if reduction == "grpo":
        return row_means(values, token_row, rows, counts).sum() / max(totals.rows, 1.0)
    total = (values * counts).sum()
    if reduction == "dr_grpo":
        return total / max(totals.rows * max_completion_length, 1.0)
    return total / max(totals.tokens, 1.0)
