"""Groups that teach nothing, found before they are trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from gigpo_core.advantages import step_rewards
from gigpo_core.batch import StepBatch, check_columns, order_steps
from gigpo_core.config import AdvantageConfig
from gigpo_core.episodes import collect_votes
from gigpo_core.relative import centred
from gigpo_core.returns import episode_returns


def informative_rows(batch: StepBatch, config: AdvantageConfig) -> Tensor:
    """Return bool [N]: whether the episodes of the row's group differ in their returns.

    Source: DAPO, dynamic sampling (arXiv:2503.14476, equation 11): groups in which every episode has
    the same return are dropped and sampled again. Invalid-action penalties do not count as a
    difference; a group of one episode has none. Under gigpo such a group can still have step
    advantages (one way to success shorter than the other): the filter is a choice, not a rule.

    Args:
        batch: as for `compute_advantages`, with the same errors.
        config: for the rewards (weights, KL); the estimator does not matter.
    """
    if check_columns(batch) == 0:
        return torch.zeros(0, dtype=torch.bool, device=batch.group_id.device)
    steps = order_steps(batch)
    returns = episode_returns(steps.arrange(step_rewards(batch, config)), steps.episodes)
    votes = collect_votes(steps, "per_episode")
    vote = steps.episodes.broadcast(returns).index_select(0, votes.source)
    differs = votes.groups.sum((centred(vote, votes.groups) != 0).to(torch.int64)) > 0
    return steps.restore(votes.groups.broadcast(differs).index_select(0, votes.vote_of_row))
