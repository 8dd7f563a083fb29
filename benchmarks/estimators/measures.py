"""How near an estimator's advantages are to the true ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

TINY = 1e-9
VISITS = 8
"""A cell's mean and variance count from this many visits on."""


@dataclass
class Cells:
    """Sums of an estimator's advantages over the visits to each of C cells (task, time, state, action)."""

    truth: Tensor
    """float64 [C]."""
    count: Tensor = field(init=False)
    total: Tensor = field(init=False)
    squares: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.count, self.total, self.squares = (torch.zeros_like(self.truth) for _ in range(3))

    def add(self, cell: Tensor, advantage: Tensor) -> None:
        """Rows, each with its cell, int64 [N]."""
        self.count.index_add_(0, cell, torch.ones_like(advantage))
        self.total.index_add_(0, cell, advantage)
        self.squares.index_add_(0, cell, advantage * advantage)

    def bias_and_noise(self) -> tuple[float, float]:
        """Root mean squares over the visits, as shares of the true advantages' own, after the one factor that fits best
        (a learning rate would make up for it): of the mean's distance from the truth, and of the deviation from the
        mean. The part of the distance that the finite number of visits explains is taken off."""
        seen = self.count >= VISITS
        count, truth = self.count[seen], self.truth[seen]
        mean = self.total[seen] / count
        variance = (self.squares[seen] - count * mean * mean).clamp(min=0) / (count - 1)
        factor = (count * mean * truth).sum() / (count * mean * mean).sum().clamp(min=1e-300)
        size = (count * truth * truth).sum()
        distance = (count * (factor * mean - truth) ** 2 - factor**2 * variance).sum().clamp(min=0)
        return float((distance / size).sqrt()), float((factor**2 * (count * variance).sum() / size).sqrt())


def alignment(advantage: Tensor, truth: Tensor) -> dict[str, float]:
    """Compare N rows: `cosine` (the part of the signal in the whole), `rank` (Spearman's correlation) and `sign` (share
    of equal signs, of the rows whose true advantage is not 0; an advantage of 0 agrees with none)."""
    counted = truth.abs() > TINY
    same = torch.sign(advantage[counted]) == torch.sign(truth[counted])
    return {
        "cosine": _cosine(advantage, truth),
        "rank": _cosine(_centred_ranks(advantage), _centred_ranks(truth)),
        "sign": float(same.double().mean()),
    }


def _cosine(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum() / (one.norm() * other.norm()).clamp(min=1e-300))


def _centred_ranks(values: Tensor) -> Tensor:
    """Ranks less their mean; equal values, rounding aside, share the mean of their ranks."""
    _, place, count = torch.unique((values * 1e9).round(), return_inverse=True, return_counts=True)
    middle = torch.cumsum(count, 0) - (count - 1) / 2
    ranks = middle[place].double()
    return ranks - ranks.mean()
