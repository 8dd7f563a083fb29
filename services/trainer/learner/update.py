"""What one batch of rows does to the weights: minibatches, micro-batches, clipped loss, AdamW."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.optim import AdamW

from gigpo_core import LossConfig, MicroBatch, TokenBatch, batch_totals, mismatch_metrics, policy_objective
from services.contracts.job import JobSpec
from services.trainer.learner.errors import LearnerError
from services.trainer.learner.logprobs import Entropy, Scorer, TokenRows
from services.trainer.learner.rows import Row

LOSS_METRICS = {
    "reference_kl": "kl",
    "policy_kl": "policy_kl",
    "entropy": "entropy",
    "clip_low": "clip_fraction",
    "clip_high": "clip_fraction",
}
"""gigpo_core's name -> ours; what is left out here is reported over the whole batch instead."""

MISMATCH_METRICS = {
    "k3_kl": "mismatch_kl",
    "difference_max": "mismatch_max",
    "weight_mean": "importance_weight_mean",
    "clipped_fraction": "importance_clipped_share",
    "ess": "importance_ess",
}


@dataclass(frozen=True)
class Columns:
    """A batch as the loss sees it: N rows and, row after row, T response tokens; on the CPU."""

    rows: TokenRows
    advantage: Tensor
    """float64 [N]."""
    rollout: Tensor
    """float32 [T]: log-probabilities as the engine reported them."""
    old: Tensor
    """float32 [T]: the same under the weights before the first optimizer step."""
    reference: Tensor | None = None
    """float32 [T]: under the reference policy; None when beta is 0."""

    def select(self, rows: Tensor) -> Columns:
        """These rows alone, in the order of `rows` int64 [M]."""
        at = self.rows.places(rows)
        reference = None if self.reference is None else self.reference[at]
        return Columns(self.rows.select(rows), self.advantage[rows], self.rollout[at], self.old[at], reference)


def columns_of(rows: Sequence[Row], scorer: Scorer) -> Columns:
    """The batch with old log-probabilities under the scorer's weights; no reference yet."""
    tokens = TokenRows([row.prompt_ids for row in rows], [row.response_ids for row in rows])
    return Columns(
        rows=tokens,
        advantage=torch.tensor([row.advantage for row in rows], dtype=torch.float64),
        rollout=torch.tensor([value for row in rows for value in row.rollout_logprobs], dtype=torch.float32),
        old=scorer.constants(tokens),
    )


def loss_config(spec: JobSpec) -> LossConfig:
    """The job's loss in gigpo_core's words."""
    algorithm = spec.algorithm
    return LossConfig(
        loss_type=algorithm.loss_type,
        epsilon=algorithm.epsilon,
        epsilon_high=algorithm.epsilon_high,
        delta=algorithm.delta,
        beta=algorithm.beta,
        entropy_weight=algorithm.entropy_coef,
        max_completion_length=spec.rollout.max_completion_length,
        rollout_importance_sampling_mode=algorithm.rollout_importance_sampling_mode,
        rollout_importance_sampling_threshold=algorithm.rollout_importance_sampling_threshold,
    )


def mismatch(columns: Columns, threshold: float) -> dict[str, float]:
    """How far the engine's log-probabilities are from the trainer's, over all tokens given."""
    measured = mismatch_metrics(
        columns.old,
        columns.rollout,
        columns.rows.token_row,
        torch.ones_like(columns.old),
        rows=len(columns.advantage),
        threshold=threshold,
    )
    return {name: measured[source] for source, name in MISMATCH_METRICS.items()}


def minibatch_rows(number: int, minibatches: int, generator: torch.Generator) -> list[Tensor]:
    """A random partition of rows 0..number-1 into at most `minibatches` parts of nearly equal size, none empty."""
    order = torch.randperm(number, generator=generator)
    return [part for part in torch.tensor_split(order, minibatches) if len(part)]


def accumulate_gradient(scorer: Scorer, columns: Columns, loss: LossConfig) -> dict[str, float]:
    """Add the gradient of the minibatch's loss to the weights' gradients, micro-batch by micro-batch.

    The token budget decides memory, not the result: every share is divided by the minibatch's totals.

    Returns:
        `loss`, `policy_loss` (without KL and entropy), and means over tokens: `kl`, `policy_kl`, `entropy`,
        `clip_fraction`.

    Raises:
        LearnerError: the loss is not finite.
    """
    totals = batch_totals(columns.rows.token_row, len(columns.advantage))
    policy_alone = replace(loss, beta=0.0, entropy_weight=0.0)
    measured: defaultdict[str, float] = defaultdict(float)
    for micro in columns.rows.plan(scorer.token_budget):
        tokens = _token_batch(scorer, columns, micro, "gradient" if loss.entropy_weight > 0 else "value")
        objective = policy_objective(tokens, loss, totals)
        value = float(objective.loss.detach())
        if not math.isfinite(value):
            raise LearnerError(f"the loss is {value}, want a finite number; a smaller learning_rate may help")
        objective.loss.backward()  # type: ignore[no-untyped-call]
        measured["loss"] += value
        with torch.no_grad():
            measured["policy_loss"] += float(policy_objective(tokens, policy_alone, totals).loss)
        for source, name in LOSS_METRICS.items():
            measured[name] += objective.metrics.get(source, 0.0)
    return dict(measured)


def step_weights(optimizer: AdamW, weights: Sequence[Tensor], max_grad_norm: float) -> float:
    """Clip the accumulated gradient to `max_grad_norm`, take one step, forget the gradient.

    Returns:
        The gradient's L2 norm before clipping.

    Raises:
        LearnerError: the gradient is not finite; the weights stay as they are.
    """
    norm = float(torch.nn.utils.clip_grad_norm_(weights, max_grad_norm))
    if not math.isfinite(norm):
        optimizer.zero_grad()
        raise LearnerError(f"the gradient's norm is {norm}, want a finite number; a smaller learning_rate may help")
    optimizer.step()
    optimizer.zero_grad()
    return norm


def _token_batch(scorer: Scorer, columns: Columns, micro: MicroBatch, entropy: Entropy) -> TokenBatch:
    logprob, spread = scorer.score(columns.rows, micro, entropy)
    at, device = columns.rows.places(micro.row), logprob.device
    return TokenBatch(
        log_prob=logprob,
        old_log_prob=columns.old[at].to(device),
        token_row=micro.token_row.to(device),
        advantage=columns.advantage[micro.row].to(device),
        rollout_log_prob=columns.rollout[at].to(device),
        reference_log_prob=None if columns.reference is None else columns.reference[at].to(device),
        entropy=spread,
    )
