"""Importance ratios between the policy in training and the one before the update."""

from __future__ import annotations

import torch
from torch import Tensor

from gigpo_core.options import ImportanceLevel
from gigpo_core.tokens import row_means

MAX_LOG_RATIO = 30.0
"""Ratios are taken as at most e^30 = 1e13, far beyond every clip range. Without a bound exp is infinite from 88 on in
float32, and infinity times an advantage or a gradient of 0 is NaN."""


def importance_ratio(log_ratio: Tensor) -> Tensor:
    """Return rho = exp(log rho), bounded by e^30; differentiable, with gradient 0 beyond the bound.

    Args:
        log_ratio: float [T].

    Returns:
        float [T], >= 0, finite.
    """
    return torch.exp(log_ratio.clamp(max=MAX_LOG_RATIO))


def importance_log_ratio(
    log_prob: Tensor, old_log_prob: Tensor, token_row: Tensor, counts: Tensor, *, rows: int, level: ImportanceLevel
) -> Tensor:
    """Return log rho of each token at one of three levels.

    Sources: "token" is PPO's and GRPO's (arXiv:2402.03300); "sequence" is GSPO (arXiv:2507.18071),
    the geometric mean over the row's tokens; "sequence_token" is GSPO-token: the
    value of the sequence's ratio, the gradient of the token's own.

    Args:
        log_prob: float [T], carries the gradient.
        old_log_prob: float [T], constant.
        token_row: int64 [T].
        counts: float [T], 1 for tokens in the data.
        rows: N.
        level: whose ratio it is.

    Returns:
        float [T]; 0 where both policies agree. Rows without counted tokens get 0 at sequence level.
    """
    log_ratio = log_prob - old_log_prob
    if level == "token":
        return log_ratio
    sequence = row_means(log_ratio, token_row, rows, counts).index_select(0, token_row)
    if level == "sequence":
        return sequence
    return sequence.detach() + (log_prob - log_prob.detach())
