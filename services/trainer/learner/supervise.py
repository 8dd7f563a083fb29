"""The loss of the format warm start: the likelihood of given responses, without rewards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import AdamW

from services.contracts.job import WarmStart
from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.port import Supervising
from services.trainer.learner.schedule import supervised_learning_rate
from services.trainer.learner.token_rows import TokenRows
from services.trainer.learner.update import step_weights

BETAS = (0.9, 0.98)
"""AdamW's averages for the warm start: short, as there are few hundred steps."""

MAX_GRAD_NORM = 1.0
REPORT_STEPS = 25
"""Steps over which the first and the last likelihood are averaged."""


def supervise(scorer: Scorer, rows: TokenRows, warmstart: WarmStart, generator: torch.Generator) -> Supervising:
    """Take `warmstart_steps` steps on rows drawn with replacement; see `Learner.supervise`."""
    weights = [weight for weight in scorer.model.parameters() if weight.requires_grad]
    optimizer = AdamW(weights, betas=BETAS, weight_decay=0.0, fused=True)
    history: list[float] = []
    for step in range(warmstart.warmstart_steps):
        optimizer.param_groups[0]["lr"] = supervised_learning_rate(warmstart, step)
        drawn = torch.randint(len(rows.turns), (warmstart.warmstart_batch_size,), generator=generator)
        history.append(_accumulate(scorer, rows.select(drawn)))
        step_weights(optimizer, weights, MAX_GRAD_NORM)
        yield step + 1, history[-1]
    return {
        "warmstart_nll_first": _mean(history[:REPORT_STEPS]),
        "warmstart_nll": _mean(history[-REPORT_STEPS:]),
        "warmstart_steps": float(len(history)),
        "warmstart_rows": float(len(rows.turns)),
    }


def _accumulate(scorer: Scorer, rows: TokenRows) -> float:
    shares: list[Tensor] = []
    part = rows.select(scorer.share(rows))
    for micro in scorer.ranks.rounds(scorer.plan(part)):
        loss = scorer.idle() if micro is None else -scorer.score(part, micro)[0].sum() / rows.tokens
        loss.backward()  # type: ignore[no-untyped-call]
        shares.append(loss.detach())
    return float(scorer.ranks.total(torch.stack(shares).sum(dtype=torch.float64).cpu()))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
