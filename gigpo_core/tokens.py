"""The tokens a loss is computed from: flat, without padding.

Convention of every loss function here: the response tokens of a micro-batch's rows are concatenated,
T in all. `token_row` int64 [T] gives the row of each, 0 .. N-1, and never decreases: the tokens of a
row are contiguous and in the order they were sampled. Prompt tokens are not included.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.errors import DtypeError, ShapeError


@dataclass(frozen=True)
class TokenBatch:
    """The T response tokens of N rows. Rows are never split over micro-batches."""

    log_prob: Tensor
    """float [T]: log pi of the sampled token under the policy in training; carries the gradient."""
    old_log_prob: Tensor
    """float [T]: the same before the first update on this data, recomputed by the trainer; constant."""
    token_row: Tensor
    """int64 [T], non-decreasing: the row of each token."""
    advantage: Tensor
    """float [N]: the advantage of each row."""
    rollout_log_prob: Tensor | None = None
    """float [T]: as the sampling engine reported it. Needed by rollout corrections."""
    reference_log_prob: Tensor | None = None
    """float [T]: under the reference model. Present exactly if the KL belongs to the loss."""
    entropy: Tensor | None = None
    """float [T], nats: entropy of the policy's next-token distribution; carries the gradient."""
    counted: Tensor | None = None
    """bool [T]; False takes a token out of the data: out of sums and out of denominators. None: all in."""
    token_weight: Tensor | None = None
    """float [T]: factor on the policy term alone; 0 silences a token that denominators still count."""
    row_group: Tensor | None = None
    """int64 [N]: the group of each row. Only the `real` loss reads it."""

    @property
    def rows(self) -> int:
        """N."""
        return len(self.advantage)

    def check(self) -> None:
        """Check the columns against the contract above; values only on the CPU, where nobody waits for them.

        Raises:
            ShapeError: a column has another shape, or token_row falls or names a row that is not there.
            DtypeError: token_row is not int64, or counted not bool.
        """
        tokens = self.log_prob.shape
        if len(tokens) != 1 or self.advantage.ndim != 1:
            raise ShapeError(
                f"want log_prob [T] and advantage [N], got {list(tokens)} and {list(self.advantage.shape)}"
            )
        names = ("old_log_prob", "token_row", "rollout_log_prob", "reference_log_prob", "entropy", "counted")
        for name in (*names, "token_weight"):
            column = getattr(self, name)
            if column is not None and column.shape != tokens:
                raise ShapeError(f"{name}: want {list(tokens)} beside log_prob, got {list(column.shape)}")
        if self.token_row.dtype != torch.int64:
            raise DtypeError(f"token_row: want int64, got {self.token_row.dtype}")
        if self.counted is not None and self.counted.dtype != torch.bool:
            raise DtypeError(f"counted: want bool, got {self.counted.dtype}")
        if self.row_group is not None and self.row_group.shape != self.advantage.shape:
            raise ShapeError(f"row_group: want {list(self.advantage.shape)}, got {list(self.row_group.shape)}")
        here = self.token_row.device.type == "cpu" and len(self.token_row) > 0
        if here and (
            int(self.token_row[0]) < 0
            or int(self.token_row[-1]) >= self.rows
            or bool((self.token_row[1:] < self.token_row[:-1]).any())
        ):
            raise ShapeError(f"token_row: want non-decreasing numbers in [0, {self.rows})")

    @property
    def counts(self) -> Tensor:
        """`counted` as a float column [T] of the dtype of log_prob: 1 for tokens in the data."""
        if self.counted is None:
            return torch.ones_like(self.log_prob, requires_grad=False)
        return self.counted.to(self.log_prob.dtype)


@dataclass(frozen=True)
class BatchTotals:
    """The totals of a whole optimizer batch, over all its micro-batches and all ranks.

    Every loss here is a sum over its micro-batch divided by these totals, so the gradients of k
    micro-batches, or of k ranks, add up to that of one batch. Frameworks that average gradients
    over ranks (DDP, FSDP) need the loss times the number of ranks.
    """

    rows: float
    """Rows with at least one counted token."""
    tokens: float
    """Counted tokens."""
    groups: float = 0.0
    """Groups with at least one row. Only the `real` loss divides by it."""

    def __add__(self, other: BatchTotals) -> BatchTotals:
        """Return the totals of two parts of one batch together; a group must lie in one part."""
        return BatchTotals(self.rows + other.rows, self.tokens + other.tokens, self.groups + other.groups)


def batch_totals(
    token_row: Tensor, rows: int, counted: Tensor | None = None, row_group: Tensor | None = None
) -> BatchTotals:
    """Return the totals of one part of a batch; add those of all parts before computing a loss.

    Args:
        token_row: int64 [T].
        rows: N.
        counted: bool [T], as in TokenBatch; None: all tokens count.
        row_group: int64 [N], as in TokenBatch; None: groups is 0.
    """
    live = token_row if counted is None else token_row[counted]
    per_row = torch.bincount(live, minlength=rows)
    groups = 0 if row_group is None else len(torch.unique(row_group))
    return BatchTotals(float((per_row > 0).sum()), float(len(live)), float(groups))


def row_sums(values: Tensor, token_row: Tensor, rows: int) -> Tensor:
    """Return [N]: the sum of [T] over each row; differentiable; rows without tokens get 0.

    Args:
        values: float [T], may carry a gradient.
        token_row: int64 [T].
        rows: N.
    """
    return values.new_zeros(rows).index_add(0, token_row, values)


def row_means(values: Tensor, token_row: Tensor, rows: int, counts: Tensor) -> Tensor:
    """Return [N]: the mean of [T] over each row's counted tokens; rows without any get 0.

    Args:
        values: float [T], may carry a gradient.
        token_row: int64 [T].
        rows: N.
        counts: float [T], 1 for counted tokens and 0 for others.
    """
    number = row_sums(counts, token_row, rows).clamp(min=1)
    return row_sums(values * counts, token_row, rows) / number
