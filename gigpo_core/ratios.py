"""Importance ratios between the policy in training and the one before the update."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from gigpo_core.tokens import row_means

ImportanceLevel = Literal["token", "sequence", "sequence_token"]


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
