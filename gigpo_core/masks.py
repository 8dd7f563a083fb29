"""Masks: which tokens count in a loss, and which only in its denominators."""

from __future__ import annotations

import torch
from torch import Tensor

from gigpo_core.errors import ConfigError


def overlong_filter(token_row: Tensor, finished: Tensor) -> Tensor:
    """Return bool [T]: False on all tokens of rows that ran into the length limit.

    Source: DAPO, "overlong filtering" (arXiv:2503.14476, section 3.4). Pass it as
    `TokenBatch.counted`: a cut response is no data, so denominators do not count it either.

    Args:
        token_row: int64 [T].
        finished: bool [N]: the response ended by itself.
    """
    return finished.index_select(0, token_row)


def entropy_threshold(entropy: Tensor, counted: Tensor | None, top_quantile: float) -> float:
    """Return the entropy above which the `top_quantile` share of the batch's tokens lies.

    Source: "Beyond the 80/20 rule" (arXiv:2506.01939). Compute it over the whole optimizer
    batch, so that micro-batches share one threshold; the linear-interpolation quantile.

    Args:
        entropy: float [T], nats.
        counted: bool [T]; None: all tokens.
        top_quantile: in (0, 1]; 1 keeps all, 0.2 the upper fifth.

    Returns:
        nats; -inf if nothing is counted.

    Raises:
        ConfigError: top_quantile is not in (0, 1].
    """
    if not 0.0 < top_quantile <= 1.0:
        raise ConfigError(f"top_entropy_quantile: want a number in (0, 1], got {top_quantile}")
    live = entropy.detach() if counted is None else entropy.detach()[counted]
    if len(live) == 0:
        return float("-inf")
    ordered = torch.sort(live).values
    place = (1.0 - top_quantile) * (len(live) - 1)
    low = int(place)
    high = min(low + 1, len(live) - 1)
    return float(torch.lerp(ordered[low], ordered[high], place - low))


def high_entropy_mask(entropy: Tensor, threshold: float) -> Tensor:
    """Return float [T]: 1 where the entropy is at least the threshold, else 0.

    Pass it as `TokenBatch.token_weight`: the paper silences low-entropy tokens but divides by all.

    Args:
        entropy: float [T], nats.
        threshold: nats, from `entropy_threshold`.
    """
    return (entropy.detach() >= threshold).to(entropy.dtype)
