"""Estimates of the Kullback-Leibler divergence from sampled tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from gigpo_core.options import KlEstimator


def kl_estimate(log_prob: Tensor, reference_log_prob: Tensor, estimator: KlEstimator = "k3") -> Tensor:
    """Return a per-token estimate of KL(pi || reference) at tokens sampled from pi.

    Source: J. Schulman, "Approximating KL Divergence" (2020). With d = log pi - log reference:
    k1 = d (unbiased, any sign), k2 = d^2/2 (biased, >= 0), k3 = exp(-d) - 1 + d (unbiased, >= 0).
    The value of k1 is unbiased but the gradient of its mean is not that of the KL (it has mean 0);
    use k2 or k3 in a loss, and k1 in rewards.

    Args:
        log_prob: float [T], may carry a gradient.
        reference_log_prob: float [T].
        estimator: which.

    Returns:
        float [T], nats; exactly 0 where both agree. k3 is infinite where the reference's log-probability is more than
        88 nats above (in float32): bounding it would turn its gradient around.
    """
    difference = log_prob - reference_log_prob
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return 0.5 * difference.square()
    return torch.expm1(-difference) + difference
