"""The common input of all estimators, and the episode and step levels that most of them combine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.anchors import Grouping
from gigpo_core.batch import OrderedSteps, StepBatch
from gigpo_core.config import AdvantageConfig
from gigpo_core.episodes import collect_votes, scaled_episode_advantage
from gigpo_core.relative import group_mean, group_relative
from gigpo_core.returns import episode_returns, levelled, return_rounding
from gigpo_core.segments import sort_by_group


@dataclass(frozen=True)
class Comparison:
    """A batch of N steps whose episodes and states can be compared; every column in canonical order."""

    batch: StepBatch
    """The batch as it was given: its columns are in row order, `steps.arrange` puts them in canonical order."""
    config: AdvantageConfig
    steps: OrderedSteps
    reward: Tensor
    """float64 [N], reward units: what each step is judged by, penalties apart."""
    returns: Tensor
    """float64 [N], reward units: discounted return to go, equal where only rounding differs."""
    penalty: Tensor | None
    """float64 [N], reward units: what an invalid action costs its own step; None: nothing does."""
    states: Grouping
    """The step groups."""

    def penalised(self, score: Tensor) -> Tensor:
        """The score of each step less its penalty, [N]."""
        return score if self.penalty is None else score - self.penalty

    @property
    def episode_total(self) -> Tensor:
        """float64 [E], reward units: undiscounted returns R(tau), equal where only rounding differs."""
        return episode_totals(self.reward, self.steps)

    @property
    def episode_score(self) -> Tensor:
        """float64 [N]: R(tau) of each step's episode, less the step's penalty."""
        return self.penalised(self.steps.episodes.broadcast(self.episode_total))

    @property
    def succeeded(self) -> Tensor:
        """bool [E]: which episodes reached their goal; where nobody says, those whose return is above 0."""
        if self.batch.success is None:
            return self.episode_total > 0
        return self.steps.episodes.sum(self.steps.arrange(self.batch.success).long()) > 0

    @property
    def last(self) -> Tensor:
        """bool [N]: the last step of each episode."""
        return self.steps.position == self.steps.episodes.broadcast(self.steps.episodes.count) - 1

    def by_group(self) -> Grouping:
        """The steps of each group, as neighbours."""
        return Grouping(*sort_by_group(self.steps.group_id))

    def state_value(self, score: Tensor) -> Tensor:
        """The mean of the scores in each step's step group: float64 [N], of equal scores exactly that score."""
        groups = self.states.groups
        return self.states.restore(groups.broadcast(group_mean(self.states.arrange(score), groups)))

    def next_value(self, value: Tensor, at_end: Tensor | float) -> Tensor:
        """The value of the state that each step led to, float64 [N].

        Args:
            value: float64 [N], of the state that each step was taken in.
            at_end: float64 [N] or one number: what stands for it after the last step of an episode.
        """
        return torch.where(self.last, at_end, torch.roll(value, -1))


def levelled_in_groups(returns: Tensor, reward: Tensor, steps: OrderedSteps) -> Tensor:
    """The returns of the steps, [N] in canonical order, equal in a group where only rounding differs."""
    rounding = steps.episodes.broadcast(return_rounding(reward, steps.episodes))
    return levelled(returns, rounding, steps.group_id)


def episode_totals(reward: Tensor, steps: OrderedSteps) -> Tensor:
    """The undiscounted returns of the episodes, [E], equal in a group where only rounding differs."""
    group_id = steps.group_id.index_select(0, steps.episodes.start)
    return levelled(episode_returns(reward, steps.episodes), return_rounding(reward, steps.episodes), group_id)


@dataclass(frozen=True)
class Levels:
    """The result of an estimator: float64 [N] each, canonical order."""

    episode: Tensor
    """A^E."""
    step: Tensor
    """A^S before its weight; 0 without a step level."""
    advantage: Tensor
    """A."""


def episode_level(comparison: Comparison) -> Tensor:
    """A^E: float64 [N], the episode's return against the group's, over the deviation that `config.scale` names."""
    config = comparison.config
    return scaled_episode_advantage(
        comparison.episode_score,
        collect_votes(comparison.steps, config.episode_statistics),
        scale=config.scale,
        epsilon=config.epsilon,
        penalised=comparison.penalty is not None,
    )


def step_level(score: Tensor, comparison: Comparison) -> Tensor:
    """A^S: float64 [N], the score of a step against those of its step group, over the deviation that `norm` names.

    Args:
        score: float64 [N], canonical order.
        comparison: its states and settings.
    """
    states, config = comparison.states, comparison.config
    relative = group_relative(
        states.arrange(score), states.groups, scaled=config.norm == "mean_std", epsilon=config.epsilon
    )
    return states.restore(relative)


def summed(episode: Tensor, step: Tensor, comparison: Comparison) -> Levels:
    """A = A^E + omega A^S."""
    return Levels(episode, step, torch.add(episode, step, alpha=comparison.config.step_weight))


def episode_alone(episode: Tensor, comparison: Comparison) -> Levels:
    """The levels of an estimator without a step level."""
    return summed(episode, torch.zeros_like(comparison.returns), comparison)
