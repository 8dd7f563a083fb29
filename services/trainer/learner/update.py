"""The update of the weights by one batch of rows: minibatches, micro-batches, clipped loss, AdamW."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.optim import AdamW

from gigpo_core import (
    LossConfig,
    MicroBatch,
    TokenBatch,
    batch_totals,
    entropy_threshold,
    high_entropy_mask,
    mismatch_metrics,
    overlong_filter,
    policy_objective,
)
from gigpo_core.options import MaskOptions, options_of
from gigpo_core.sections import LOSS_OPTIONS
from services.contracts.algorithm import config_values
from services.contracts.job import JobSpec
from services.trainer.learner.agreement import disagreement
from services.trainer.learner.errors import LearnerError
from services.trainer.learner.logprobs import Scorer, on_device
from services.trainer.learner.ranks import Ranks, whole
from services.trainer.learner.rows import Row
from services.trainer.learner.tempered import Entropy
from services.trainer.learner.token_rows import TokenRows

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
    finished: Tensor
    """bool [N]: False where the response was cut."""
    group: Tensor
    """int64 [N]: the group of each row, numbered by first appearance."""
    reference: Tensor | None = None
    """float32 [T]: under the reference policy; None when beta is 0."""
    entropy: Tensor | None = None
    """float32 [T], nats: of the distribution that `old` is from; None where no mask reads it."""
    counted: Tensor | None = None
    """bool [T]: what sums and denominators hold; None: all."""
    weight: Tensor | None = None
    """float [T]: factor on the policy term; None: 1."""
    fresh: bool = False
    """The weights are still those that `old` is asked for: the forward of the gradient finds it, and fills it in."""

    def select(self, rows: Tensor) -> Columns:
        """These rows alone, in the order of `rows` int64 [M]."""
        at = self.rows.places(rows)
        return Columns(
            rows=self.rows.select(rows),
            advantage=self.advantage[rows],
            rollout=self.rollout[at],
            old=self.old[at],
            finished=self.finished[rows],
            group=self.group[rows],
            reference=_part(self.reference, at),
            entropy=_part(self.entropy, at),
            counted=_part(self.counted, at),
            weight=_part(self.weight, at),
            fresh=self.fresh,
        )

    def teaching(self, loss: LossConfig) -> Tensor:
        """int64 [M], ascending: the rows whose advantage is not 0; where the loss compares the rows of a group, every
        row of a group that has such a one."""
        teaches = self.advantage != 0
        if loss.row.whole_groups:
            teaches = torch.isin(self.group, self.group[teaches])
        return teaches.nonzero()[:, 0]


def _part(column: Tensor | None, at: Tensor) -> Tensor | None:
    return None if column is None else column[at]


@dataclass(frozen=True)
class TokenMask(MaskOptions):
    """Which response tokens take part; see gigpo_core.masks."""

    def counted(self, columns: Columns) -> Tensor | None:
        """bool [T], or None for all: what sums and denominators hold."""
        return overlong_filter(columns.rows.token_row, columns.finished) if self.overlong_filter else None

    def on(self, columns: Columns) -> Columns:
        """The rows of one optimizer batch with both masks."""
        counted = self.counted(columns)
        return replace(columns, counted=counted, weight=self.weight(columns, counted))

    def weight(self, columns: Columns, counted: Tensor | None) -> Tensor | None:
        """float [T], or None for 1: 0 where the entropy is below the threshold of this optimizer batch."""
        if columns.entropy is None or self.top_entropy_quantile == 1:
            return None
        return high_entropy_mask(
            columns.entropy, entropy_threshold(columns.entropy, counted, self.top_entropy_quantile)
        )


def token_mask(spec: JobSpec) -> TokenMask:
    """The job's masks."""
    return TokenMask(**config_values(spec.algorithm, options_of(MaskOptions)))


def columns_of(rows: Sequence[Row], scorer: Scorer, entropy: Entropy = "skip") -> Columns:
    """The batch with old log-probabilities under the scorer's weights; no reference yet."""
    columns = unscored(rows)
    old, spreads = scorer.constants(columns.rows, entropy)
    return replace(columns, old=old, entropy=spreads, fresh=False)


def fresh_columns(rows: Sequence[Row], scorer: Scorer, loss: LossConfig) -> Columns:
    """The batch with `old` of the rows that teach nothing; the one gradient pass over the others finds theirs."""
    columns = unscored(rows)
    idle = torch.ones(len(rows), dtype=torch.bool)
    idle[columns.teaching(loss)] = False
    rest = idle.nonzero()[:, 0]
    columns.old[columns.rows.places(rest)] = scorer.constants(columns.rows.select(rest))[0]
    return columns


def unscored(rows: Sequence[Row]) -> Columns:
    """The batch without log-probabilities of the trainer: `old` is 0."""
    tokens = TokenRows([row.turn for row in rows])
    groups = {name: number for number, name in enumerate(dict.fromkeys(row.group_id for row in rows))}
    return Columns(
        rows=tokens,
        advantage=torch.tensor([row.advantage for row in rows], dtype=torch.float64),
        rollout=torch.tensor([value for row in rows for value in row.rollout_logprobs], dtype=torch.float32),
        old=torch.zeros(tokens.tokens),
        finished=torch.tensor([row.finished for row in rows], dtype=torch.bool),
        group=torch.tensor([groups[row.group_id] for row in rows], dtype=torch.int64),
        fresh=True,
    )


def loss_config(spec: JobSpec) -> LossConfig:
    """The job's loss in gigpo_core's words; a KL that is in the reward is not in the loss."""
    values = config_values(spec.algorithm, LOSS_OPTIONS)
    if spec.algorithm.subtracts_kl:
        values["beta"] = 0.0
    return LossConfig(**values, max_completion_length=spec.rollout.max_completion_length)


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


def agreement(columns: Columns, rows: Sequence[Row], version: int, spec: JobSpec) -> dict[str, float]:
    """`current_mismatch_kl` of the rows that `version` sampled alone; empty if there is none.

    Raises:
        MismatchError: see `disagreement`.
    """
    own = [number for number, row in enumerate(rows) if set(row.versions) == {version}]
    if not own:
        return {}
    threshold = spec.algorithm.rollout_importance_sampling_threshold
    kl = mismatch(columns.select(torch.tensor(own)), threshold)["mismatch_kl"]
    disagreement(kl, spec.model.torch_dtype)
    return {"current_mismatch_kl": kl}


def minibatch_rows(
    number: int, minibatches: int, generator: torch.Generator, group: Tensor | None = None
) -> list[Tensor]:
    """A random partition of rows 0..number-1 into at most `minibatches` parts of nearly equal size, none empty.

    Args:
        group: int64 [number]: rows of one group stay together, and the parts are of nearly as many groups; None: rows
            are dealt one by one.
    """
    if group is not None:
        names, index = torch.unique(group, return_inverse=True)
        parts = minibatch_rows(len(names), minibatches, generator)
        return [torch.isin(index, part).nonzero()[:, 0] for part in parts]
    order = torch.randperm(number, generator=generator)
    return [part for part in torch.tensor_split(order, minibatches) if len(part)]


def accumulate_gradient(
    scorer: Scorer, columns: Columns, loss: LossConfig, mask: TokenMask = TokenMask()
) -> dict[str, float]:
    """Add the gradient of the minibatch's loss to the weights' gradients, micro-batch by micro-batch.

    The token budget decides memory, not the result: every share is divided by the minibatch's totals. A loss that
    compares whole groups takes one that is larger than the budget at once all the same. Where the columns are `fresh`,
    their `old` is filled in.

    Returns:
        `loss`, `policy_loss` (without KL and entropy), and means over tokens: `kl`, `policy_kl`, `entropy`,
        `clip_fraction`.

    Raises:
        LearnerError: the loss is not finite.
    """
    columns = mask.on(columns)
    group = columns.group if loss.row.whole_groups else None
    totals = batch_totals(columns.rows.token_row, len(columns.advantage), columns.counted, group)
    mine, old = scorer.share(columns.rows, group), columns.old
    places = columns.rows.places(mine)
    columns = columns.select(mine)
    shares: list[Tensor] = []
    names: tuple[str, ...] = ()
    for micro in scorer.ranks.rounds(scorer.plan(columns.rows, group)):
        if micro is None:
            scorer.idle().backward()  # type: ignore[no-untyped-call]
            continue
        tokens = _token_batch(scorer, columns, micro, "gradient" if loss.entropy_coef > 0 else "value")
        objective = policy_objective(tokens, loss, totals)
        objective.loss.backward()  # type: ignore[no-untyped-call]
        names = objective.names
        if columns.fresh:
            columns.old[columns.rows.places(micro.row)] = tokens.old_log_prob.cpu()
        shares.append(torch.stack([objective.loss.detach(), objective.policy_loss, *objective.shares]))
    if columns.fresh:
        found = torch.zeros_like(old)
        found[places] = columns.old
        old.copy_(scorer.ranks.total(found))
    measured = _added(shares, names, scorer.ranks)
    if not math.isfinite(measured["loss"]):
        raise LearnerError(f"the loss is {measured['loss']}, want a finite number; a smaller learning_rate may help")
    return measured


def _added(shares: Sequence[Tensor], names: Sequence[str], ranks: Ranks) -> dict[str, float]:
    """The sums over micro-batches and ranks.

    Args:
        shares: of each of this rank's micro-batches: loss, policy loss, then the metrics called `names`.
    """
    measured = {"loss": 0.0, "policy_loss": 0.0, **dict.fromkeys(LOSS_METRICS.values(), 0.0)}
    if shares:
        sums = torch.stack(list(shares)).sum(0, dtype=torch.float64).tolist()  # the one wait for the device
        measured["loss"], measured["policy_loss"], *means = sums
        for source, mean in zip(names, means, strict=True):
            if source in LOSS_METRICS:
                measured[LOSS_METRICS[source]] += mean
    total = ranks.total(torch.tensor(list(measured.values()), dtype=torch.float64))
    return dict(zip(measured, total.tolist(), strict=True))


def step_weights(optimizer: AdamW, weights: Sequence[Tensor], max_grad_norm: float) -> float:
    """Clip the accumulated gradient to `max_grad_norm`, take one step, forget the gradient.

    Returns:
        The gradient's L2 norm before clipping.

    Raises:
        LearnerError: the gradient is not finite; the weights stay as they are.
    """
    norm = float(whole(torch.nn.utils.clip_grad_norm_(weights, max_grad_norm)))
    if not math.isfinite(norm):
        optimizer.zero_grad()
        raise LearnerError(f"the gradient's norm is {norm}, want a finite number; a smaller learning_rate may help")
    optimizer.step()
    optimizer.zero_grad()
    return norm


def _token_batch(scorer: Scorer, columns: Columns, micro: MicroBatch, entropy: Entropy) -> TokenBatch:
    at, device = columns.rows.places(micro.row), scorer.device

    def part(column: Tensor | None) -> Tensor | None:
        return None if column is None else on_device(column[at], device)

    constant = {
        "token_row": on_device(micro.token_row, device),
        "advantage": on_device(columns.advantage[micro.row], device),
        "row_group": on_device(columns.group[micro.row], device),
        "rollout_log_prob": on_device(columns.rollout[at], device),
    }
    reference, counted, weight = map(part, (columns.reference, columns.counted, columns.weight))
    logprob, spread = scorer.score(columns.rows, micro, entropy)
    return TokenBatch(
        log_prob=logprob,
        old_log_prob=logprob.detach() if columns.fresh else on_device(columns.old[at], device),
        **constant,
        reference_log_prob=reference,
        entropy=spread,
        counted=counted,
        token_weight=weight,
    )
