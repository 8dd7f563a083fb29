"""Checks that the policy learns and does not forget. Pure functions of the metrics of batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from services.api.insight.evidence import RECENT, Evidence, figure, finding
from services.contracts.rest.insight import Figure, Finding

WINDOW = 5
"""Batches of a mean that is compared with another."""
COLLAPSE = 0.2
"""Success lost since the best batches; with some hundred episodes in a window that is no chance."""
COLLAPSE_SHARE = 0.6
"""A collapse leaves at most this share of the best success."""
ZERO_AFTER = 20
"""Batches without one win after which success counts as stuck."""
FLAT_AFTER = 40
"""Batches after which success should have moved."""
LITTLE_ENTROPY_NATS = 0.05
ENTROPY_LEFT = 0.2
"""Share of the first batches' entropy."""
FAR_NATS = 2.0
"""KL to the reference, nats per token: it gives the policy's own tokens 1 / e^2 = 14 % of their probability."""
BIG_STEP_NATS = 0.2
"""KL of one batch's update, nats per token; PPO's usual target is 0.01 to 0.03."""
MANY_CLIPPED = 0.3
RATE_LEFT = 1e-3
"""Share of the job's learning_rate below which the optimizer does not move the policy."""


def not_a_number(evidence: Evidence) -> Finding | None:
    """Loss or gradient without a finite value."""
    for row in evidence.metrics:
        for name in ("loss", "grad_norm", "kl", "entropy"):
            value = row.get(name)
            if isinstance(value, float) and not math.isfinite(value):
                return finding(
                    "not_a_number",
                    "problem",
                    "The loss is not a finite number",
                    [figure(name, str(value), f"first in batch {row.get('batch')}")],
                    meaning=f"{name} has no finite value since batch {row.get('batch')}, so the weights are lost.",
                    advice="Fork the job from a checkpoint before that batch with a smaller learning_rate or "
                    "max_grad_norm.",
                )
    return None


def collapsed(evidence: Evidence) -> Finding | None:
    """Success that was there and is gone."""
    success = evidence.values("success")
    if len(success) < 3 * WINDOW:
        return None
    means = [fmean(success[at : at + WINDOW]) for at in range(len(success) - WINDOW + 1)]
    best, now = max(means), means[-1]
    if best - now < COLLAPSE or now > COLLAPSE_SHARE * best:
        return None
    at = means.index(best)
    return finding(
        "collapsed",
        "problem",
        "Success has collapsed",
        [
            figure("best_success", best, f"mean of {WINDOW} batches from batch {at} on"),
            figure("success", now, f"mean of the newest {WINDOW}; limit {COLLAPSE} below the best"),
            *_then_and_now(evidence, at),
        ],
        meaning=f"The policy won {best:.0%} of its episodes around batch {at} and wins {now:.0%} now.",
        advice="Fork from a checkpoint before the fall with a smaller learning_rate or a larger beta, and set "
        "checkpoint_keep so that the best one stays.",
    )


def _then_and_now(evidence: Evidence, at: int) -> list[Figure]:
    found = []
    for name in ("entropy", "kl"):
        values = evidence.values(name)
        if len(values) > at:
            found.append(figure(name, values[-1], f"nats per token, newest batch; {values[at]:.4g} in batch {at}"))
    return found


def success_stays_zero(evidence: Evidence) -> Finding | None:
    """Find a job that has won no episode so far and whose return does not move either."""
    success = evidence.values("success")
    if not evidence.judges_success or len(success) < ZERO_AFTER or any(success):
        return None
    if _has_moved(evidence.values("return_mean")):
        return None
    return finding(
        "success_stays_zero",
        "problem",
        "Success stays 0",
        [
            figure("batches", float(len(success)), f"without one episode won; limit {ZERO_AFTER}"),
            figure("return_mean", evidence.recent("return_mean") or 0.0, "reward per episode, newest batches"),
        ],
        meaning="Random play does not win these tasks, so there is no success to learn from.",
        advice=f"Begin with easier tasks or {evidence.first_lesson}, raise max_turns and num_generations, or reward "
        "steps on the way; `gigpo env check` shows what a random actor reaches.",
    )


def nothing_learned(evidence: Evidence) -> Finding | None:
    """Success and return that are where they began."""
    success, returns = evidence.values("success"), evidence.values("return_mean")
    if len(success) < FLAT_AFTER or not any(success) or evidence.has_learned:
        return None
    first, last = fmean(success[:RECENT]), fmean(success[-RECENT:])
    if abs(last - first) > 2 * _spread(success) or _has_moved(returns):
        return None
    return finding(
        "nothing_learned",
        "warning",
        "Success does not move",
        [
            figure("first_success", first, f"mean of the first {RECENT} batches"),
            figure("success", last, f"mean of the newest {RECENT}"),
            figure("uncertainty", 2 * _spread(success), "two standard errors of their difference"),
        ],
        meaning=f"After {len(success)} batches success differs from its beginning by no more than chance.",
        advice="Try a larger learning_rate, more groups_per_batch, or easier tasks; look under Anchors whether the "
        "advantages tell actions apart.",
    )


def _spread(values: Sequence[float]) -> float:
    """Standard error of the difference of two means of `RECENT` batches, from the differences of neighbours."""
    steps = [(b - a) ** 2 / 2 for a, b in pairwise(values)]
    return math.sqrt(2 * fmean(steps) / RECENT)


def _has_moved(values: Sequence[float]) -> bool:
    if len(values) < 2 * RECENT:
        return False
    return abs(fmean(values[-RECENT:]) - fmean(values[:RECENT])) > 2 * _spread(values)


def entropy_gone(evidence: Evidence) -> Finding | None:
    """A policy that always says the same, before it has learned."""
    entropy = evidence.values("entropy")
    if len(entropy) < 2 * WINDOW or evidence.has_learned:
        return None
    first, now = fmean(entropy[:WINDOW]), fmean(entropy[-WINDOW:])
    if now > LITTLE_ENTROPY_NATS or now > ENTROPY_LEFT * first:
        return None
    return finding(
        "entropy_gone",
        "problem",
        "The entropy is gone",
        [
            figure("entropy", now, f"nats per token, newest {WINDOW} batches; limit {LITTLE_ENTROPY_NATS}"),
            figure("first_entropy", first, f"the same of the first {WINDOW}"),
            figure("success", evidence.recent("success") or 0.0, "share of episodes, newest batches"),
        ],
        meaning="The policy gives the same reply whatever it samples, so episodes of a group are equal and nothing new "
        "is tried.",
        advice="Fork from an earlier checkpoint with a larger beta or entropy_coef, a smaller learning_rate, or a "
        "higher temperature.",
    )


def drifts_away(evidence: Evidence) -> Finding | None:
    """Far from the reference policy."""
    kl, beta = evidence.recent("kl"), float(evidence.setting("algorithm.beta", 0.0))
    if kl is None or not beta or kl < FAR_NATS or evidence.has_learned:
        return None
    return finding(
        "drifts_away",
        "warning",
        "The policy drifts far from its reference",
        [figure("kl", kl, f"nats per token, newest batches; limit {FAR_NATS}"), figure("beta", beta, "its weight")],
        meaning="The policy's replies are very unlikely under the reference, and it has not learned the task.",
        advice="Raise beta or lower learning_rate; look at the replies under Rollouts.",
    )


def steps_too_large(evidence: Evidence) -> Finding | None:
    """Updates that change the policy so much that clipping stops them."""
    if len(evidence.metrics) < WINDOW:  # the first batches after a warm start are large
        return None
    change, clipped = evidence.typical("policy_kl"), evidence.typical("clip_fraction")
    large = change is not None and change > BIG_STEP_NATS
    often = clipped is not None and clipped > MANY_CLIPPED
    if not large and not often:
        return None
    figures = [] if change is None else [
        figure("policy_kl", change, f"nats per token, newest batches; limit {BIG_STEP_NATS}")
    ]  # fmt: skip
    if clipped is not None:
        figures.append(figure("clip_fraction", clipped, f"share of tokens, newest batches; limit {MANY_CLIPPED}"))
    return finding(
        "steps_too_large",
        "warning",
        "Each batch changes the policy too much",
        figures,
        meaning="A batch moves the policy further than its samples support, which often ends in a collapse.",
        advice="Lower learning_rate, num_iterations or minibatches.",
    )


def learning_rate_zero(evidence: Evidence) -> Finding | None:
    """An optimizer that does not move the policy while batches are left."""
    rates, peak = evidence.values("learning_rate"), float(evidence.setting("training.learning_rate", 0.0))
    total, warmup = evidence.setting("training.total_batches", 0), evidence.setting("training.warmup_batches", 0)
    if len(rates) <= warmup or not peak:
        return None
    idle = sum(rate <= RATE_LEFT * peak for rate in rates[warmup:])
    norms = evidence.values("grad_norm")[-WINDOW:]
    still = len(norms) == WINDOW and not any(norms)
    if idle <= max(total // 20, 1) and not still:
        return None
    return finding(
        "learning_rate_zero",
        "problem",
        "The policy does not change any more",
        [
            figure("batches", float(idle), f"behind the warm-up, with less than {RATE_LEFT:g} of learning_rate"),
            figure("learning_rate", rates[-1], f"newest batch; the job's is {peak:g}"),
            figure("grad_norm", evidence.recent("grad_norm") or 0.0, "L2, newest batches"),
        ],
        meaning="Batches are played and change nothing: the learning rate or the gradient is 0.",
        advice="Set lr_end_ratio above 0 or lr_scheduler_type: constant; where the gradient is 0, see the groups.",
    )


LEARNING_CHECKS = (
    not_a_number,
    collapsed,
    success_stays_zero,
    nothing_learned,
    entropy_gone,
    drifts_away,
    steps_too_large,
    learning_rate_zero,
)
