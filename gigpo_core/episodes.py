"""The episode level: A^E, the advantage of a whole episode over the others of its group."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.batch import OrderedSteps
from gigpo_core.config import EpisodeStatistics, RewardScale
from gigpo_core.relative import centred, deviation, group_relative
from gigpo_core.segments import Segments, segments_of_sorted, sort_by_group

_ROUNDING = 2.0**-48
"""Votes of a batch are equal when they differ by less, as a share of the largest of them and 1."""


@dataclass(frozen=True)
class Votes:
    """Who counts in the statistics of a group: V votes, sorted by group.

    per_episode: one vote per episode, that of its first step. per_step: one vote per step.
    """

    source: Tensor
    """int64 [V]: the canonical row whose score each vote is."""
    vote_of_row: Tensor
    """int64 [N]: the vote that stands for each canonical row."""
    groups: Segments
    """One segment per group, over the votes."""
    lonely: Tensor
    """bool [V]: the vote's group holds a single episode, so there is nothing to compare it with."""

    def to_rows(self, difference: Tensor, divisor: Tensor, score: Tensor, penalised: bool) -> Tensor:
        """Return float64 [N]: difference / divisor of each row's vote, [V] each; 0 where lonely.

        A penalised step stands off its vote by its own penalty, which is divided alike.

        Args:
            difference: float64 [V], the centred score of each vote.
            divisor: float64 [V], > 0.
            score: float64 [N], canonical order; read where penalised.
            penalised: whether steps of one episode can have different scores.
        """
        rows = (difference / divisor).masked_fill_(self.lonely, 0.0).index_select(0, self.vote_of_row)
        if not penalised:
            return rows
        offset = score - score.index_select(0, self.source).index_select(0, self.vote_of_row)
        return rows + offset * (1.0 / divisor).masked_fill_(self.lonely, 0.0).index_select(0, self.vote_of_row)


def collect_votes(steps: OrderedSteps, statistics: EpisodeStatistics) -> Votes:
    """Return the votes of a batch, for steps in canonical order.

    Args:
        steps: the canonical rows.
        statistics: who votes: every episode once, or every step.

    Returns:
        V = E votes or V = N, sorted by group, inside a group in canonical order.
    """
    if statistics == "per_episode":
        order, groups = sort_by_group(steps.group_id.index_select(0, steps.episodes.start))
        source = steps.episodes.start.index_select(0, order)
        place = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))
        return Votes(source, steps.episodes.broadcast(place), groups, groups.broadcast(groups.count) == 1)
    order, groups = sort_by_group(steps.group_id)
    place = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))
    opens = (steps.position == 0).to(torch.int64).index_select(0, order)
    return Votes(order, place, groups, groups.broadcast(groups.sum(opens)) == 1)


def scaled_episode_advantage(
    score: Tensor, votes: Votes, *, scale: RewardScale, epsilon: float, penalised: bool = True
) -> Tensor:
    """Return A^E of each step: its score against the votes of its group.

    Sources: GRPO (arXiv:2402.03300) for "group"; Dr. GRPO (arXiv:2503.20783) for "none"; "batch"
    divides by the deviation of all votes of the batch, as they are, not centred.

    Args:
        score: float64 [N], canonical order: R(tau), less the penalty on steps with an invalid action.
        votes: from `collect_votes`.
        scale: "group", "batch" or "none".
        epsilon: added to the deviation, reward units, > 0.
        penalised: False promises that all steps of an episode have one score, which saves work.

    Returns:
        float64 [N], canonical order. Groups of one episode get 0. Where the votes of a group are all
        equal there is no deviation to divide by: equal scores get exactly 0, and a penalised step
        gets its penalty unscaled (dividing by epsilon alone would give -penalty * 1e6).
    """
    vote = score.index_select(0, votes.source)
    difference = centred(vote, votes.groups)
    divisor = torch.ones_like(difference)
    if scale == "group":
        spread = deviation(difference, votes.groups)
        divisor = votes.groups.broadcast(torch.where(spread > 0, spread + epsilon, 1.0))
    elif scale == "batch":
        divisor = divisor * _batch_divisor(vote, epsilon)
    return votes.to_rows(difference, divisor, score, penalised)


def leave_one_out_advantage(score: Tensor, votes: Votes, *, penalised: bool = True) -> Tensor:
    """Return K/(K-1) (R - mean): the score less the mean of the other K-1 votes of the group.

    Source: RLOO (arXiv:2402.14740).

    Args:
        score: float64 [N], canonical order, as for `scaled_episode_advantage`.
        votes: from `collect_votes`; K counts them.
        penalised: False promises that all steps of an episode have one score.

    Returns:
        float64 [N], canonical order, reward units. Groups of one episode get 0, equal scores exactly 0.
    """
    vote = score.index_select(0, votes.source)
    others = (votes.groups.count - 1).clamp(min=1)
    factor = votes.groups.broadcast(votes.groups.count / others.to(torch.float64))
    return votes.to_rows(centred(vote, votes.groups), 1.0 / factor, score, penalised)


def reinforce_plus_plus_advantage(
    score: Tensor, votes: Votes, *, scale: RewardScale, epsilon: float, penalised: bool = True
) -> Tensor:
    """Return (R - mean of the group) over the batch deviation of these differences.

    Source: REINFORCE++ with baseline (arXiv:2501.03262).

    Args:
        score: float64 [N], canonical order, as for `scaled_episode_advantage`.
        votes: from `collect_votes`.
        scale: "batch", the paper's; "group" and "none" are as in `scaled_episode_advantage`.
        epsilon: added to the deviation, > 0.
        penalised: False promises that all steps of an episode have one score.

    Returns:
        float64 [N], canonical order. Groups of one episode get 0, and a batch without differences exactly 0.
    """
    if scale != "batch":
        return scaled_episode_advantage(score, votes, scale=scale, epsilon=epsilon, penalised=penalised)
    difference = centred(score.index_select(0, votes.source), votes.groups)
    divisor = torch.ones_like(difference) * _batch_divisor(difference, epsilon)
    return votes.to_rows(difference, divisor, score, penalised)


def decoupled_episode_advantage(
    scores: Tensor, weights: Tensor, votes: Votes, epsilon: float, *, voted: Tensor | None = None
) -> Tensor:
    """Return GDPO's advantage: normalise each reward function in its group, weigh, whiten the batch.

    Source: GDPO (arXiv:2601.05242). With one sum of rewards first, different combinations of F
    rewards can get one advantage; normalised apart they stay apart.

    Args:
        scores: float64 [N, F], canonical order: the episode's undiscounted sum for each function.
        weights: float64 [F].
        votes: from `collect_votes`.
        epsilon: added to every deviation, > 0.
        voted: bool [N, F], canonical order: whether the function has a vote on the step; where it abstains the step
            is not compared by it. None: every function votes on every step.

    Returns:
        float64 [N], canonical order: mean 0 over the votes; 0 everywhere if no function differs in
        any group. Groups of one episode get 0.
    """
    mixed = torch.zeros_like(scores[:, 0].index_select(0, votes.source))
    for function in range(scores.shape[1]):
        vote = scores[:, function].index_select(0, votes.source)
        chosen = None if voted is None else voted[:, function].index_select(0, votes.source)
        mixed += weights[function] * _relative_among(vote, votes.groups, chosen, epsilon)
    whitened = (mixed - mixed.mean()) / _batch_divisor(mixed, epsilon)
    return whitened.masked_fill(votes.lonely, 0.0).index_select(0, votes.vote_of_row)


def _relative_among(vote: Tensor, groups: Segments, chosen: Tensor | None, epsilon: float) -> Tensor:
    """Return the chosen votes, [V], over the mean and deviation of those of their group; 0 for the others."""
    if chosen is None:
        return group_relative(vote, groups, scaled=True, epsilon=epsilon)
    place = chosen.nonzero().squeeze(1)
    if len(place) == 0:
        return torch.zeros_like(vote)
    home = groups.segment.index_select(0, place)
    among = segments_of_sorted(home[1:] != home[:-1], vote.device)
    relative = group_relative(vote.index_select(0, place), among, scaled=True, epsilon=epsilon)
    return torch.zeros_like(vote).index_copy_(0, place, relative)


def _batch_divisor(values: Tensor, epsilon: float) -> Tensor:
    """Return the sample deviation of [V] plus epsilon, or 1 if all values are equal or V = 1."""
    if len(values) < 2:
        return values.new_ones(())
    shifted = values - values[0]
    spread = (shifted - shifted.mean()).square().sum().div(len(values) - 1).sqrt()
    differs = shifted.abs().max() > _ROUNDING * (1.0 + values.abs().max())
    return torch.where(differs, spread + epsilon, 1.0)
