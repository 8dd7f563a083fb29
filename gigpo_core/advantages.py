"""The door: a batch of steps and a config in, advantages out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.anchors import Grouping, exact_step_groups, first_appearance_labels
from gigpo_core.batch import OrderedSteps, StepBatch, check_columns, order_steps
from gigpo_core.config import STEP_ESTIMATORS, AdvantageConfig
from gigpo_core.episodes import (
    collect_votes,
    decoupled_episode_advantage,
    leave_one_out_advantage,
    reinforce_plus_plus_advantage,
    scaled_episode_advantage,
)
from gigpo_core.errors import ConfigError
from gigpo_core.graphgpo import transition_values
from gigpo_core.hgpo import hierarchy_advantage
from gigpo_core.relative import group_relative
from gigpo_core.returns import discounted_returns, episode_returns
from gigpo_core.similarity import similar_step_groups


@dataclass(frozen=True)
class Advantages:
    """What `compute_advantages` returns; every column in the row order of the batch, on its device."""

    advantage: Tensor
    """float64 [N]: A, to be given to every response token of the step."""
    episode_advantage: Tensor
    """float64 [N]: A^E."""
    step_advantage: Tensor
    """float64 [N]: A^S before the weight omega; 0 for estimators without a step level. Under hgpo this
    is the whole advantage, and omega is not used."""
    step_return: Tensor
    """float64 [N], reward units: discounted return to go, before the invalid-action penalty."""
    step_group: Tensor
    """int64 [N]: dense labels of the step groups, numbered by first appearance in row order."""


def compute_advantages(batch: StepBatch, config: AdvantageConfig) -> Advantages:
    """Return the advantages of N steps, for any number of groups and jobs at once.

    A = A^E + omega A^S. Source: GiGPO (arXiv:2505.10978); the other estimators
    name theirs where they stand. float64 throughout; statistics over the rows given, so call this
    before any padding, copying, sharding or shuffling. Permuting the rows permutes the results
    (bit for bit) and nothing else; "batch" and "gdpo" scales aside, a group's results do not depend
    on which other groups are in the batch.

    Args:
        batch: N steps; N = 0 is fine and gives empty columns.
        config: the estimator and its settings.

    Returns:
        Five columns of N, finite where the settings are of ordinary size: reward units, or dimensionless where the
        estimator divides by a deviation. What has nothing to be compared with gets 0, and equal scores exactly 0.

    Raises:
        ConfigError: the batch lacks what the estimator needs (see `StepBatch`).
        ShapeError, DtypeError: a column is malformed.
        RowError: a row is wrong (negative id, NaN or size beyond 1e100, duplicate or missing step); it says which.
    """
    extent = check_columns(batch)
    if extent.rows == 0:
        return _empty(batch.group_id.device)
    steps = order_steps(batch, extent)
    reward = steps.arrange(step_rewards(batch, config))
    penalty = _penalty(batch, config, steps)
    returns = discounted_returns(reward, steps.episodes, steps.position, config.gamma, longest=steps.longest)
    grouping = _step_groups(batch, config, steps)
    total = episode_returns(reward, steps.episodes)
    if config.advantage_estimator == "hgpo" and not config.hgpo_base_group:
        episode = torch.zeros_like(reward)
    elif config.scale == "gdpo":
        episode = _decoupled_advantage(batch, config, steps)
    else:
        episode = _episode_advantage(steps.episodes.broadcast(total), penalty, steps, config)
    score = returns
    if config.advantage_estimator == "graphgpo":
        succeeded = total > 0 if batch.success is None else steps.episodes.sum(steps.arrange(batch.success).long()) > 0
        score = transition_values(steps, grouping, succeeded, discount=config.gamma) * config.graphgpo_success_reward
    score = score if penalty is None else score - penalty
    if config.advantage_estimator == "hgpo":
        step = advantage = _hierarchy_advantage(score, episode, grouping, steps, config)
    else:
        step = _step_advantage(score, grouping, config)
        advantage = torch.add(episode, step, alpha=config.step_weight)
    return Advantages(
        advantage=steps.restore(advantage),
        episode_advantage=steps.restore(episode),
        step_advantage=steps.restore(step),
        step_return=steps.restore(returns),
        step_group=first_appearance_labels(grouping, steps.order),
    )


def step_rewards(batch: StepBatch, config: AdvantageConfig) -> Tensor:
    """Return the reward each step is judged by: float64 [N], row order, reward units.

    The environment's reward, plus the weighted reward functions, less beta times the KL to the
    reference model where `kl_in_reward` holds and the batch has `kl`.

    Args:
        batch: the N steps.
        config: reads reward_weights, beta and kl_in_reward.

    Raises:
        ConfigError: `reward_weights` and `reward_components` do not fit together, or `kl_in_reward` is
            asked for by name and the batch has no `kl`.
    """
    reward = batch.reward.to(torch.float64)
    components = batch.reward_components
    if config.reward_weights is not None and components is None:
        raise ConfigError("reward_weights: the batch has no reward_components to weigh")
    if components is not None:
        # One by one and not as a matrix product, whose rounding may differ from row to row.
        for column, weight in zip(components.to(torch.float64).unbind(1), reward_weights(batch, config), strict=True):
            reward = reward + weight * column
    if config.kl_in_reward and config.beta > 0 and batch.kl is None:
        raise ConfigError("kl_in_reward: the batch has no kl to subtract")
    if config.subtracts_kl and batch.kl is not None:
        reward = reward - config.beta * batch.kl.to(torch.float64)
    return reward


def reward_weights(batch: StepBatch, config: AdvantageConfig) -> Tensor:
    """Return the weights of the F reward functions: float64 [F], on the batch's device; default all 1.

    Args:
        batch: N steps that have reward_components, [N, F].
        config: reads reward_weights.

    Raises:
        ConfigError: not F weights.
    """
    assert batch.reward_components is not None
    functions = batch.reward_components.shape[1]
    weights = (1.0,) * functions if config.reward_weights is None else config.reward_weights
    if len(weights) != functions:
        raise ConfigError(f"reward_weights: want {functions}, one per reward function, got {len(weights)}")
    return torch.tensor(weights, dtype=torch.float64, device=batch.reward.device)


def _step_groups(batch: StepBatch, config: AdvantageConfig, steps: OrderedSteps) -> Grouping:
    if config.anchor_similarity is None:
        return exact_step_groups(steps.group_id, steps.arrange(batch.anchor_key))
    if batch.anchor_text is None:
        raise ConfigError("anchor_similarity: the batch has no anchor_text to compare")
    rows = range(len(batch.anchor_text)) if steps.order is None else steps.order.tolist()
    return similar_step_groups(steps.group_id, [batch.anchor_text[row] for row in rows], config.anchor_similarity)


def _episode_advantage(score: Tensor, penalty: Tensor | None, steps: OrderedSteps, config: AdvantageConfig) -> Tensor:
    penalised = penalty is not None
    if penalty is not None:
        score = score - penalty
    votes = collect_votes(steps, config.episode_statistics)
    if config.advantage_estimator == "rloo":
        return leave_one_out_advantage(score, votes, penalised=penalised)
    estimate = scaled_episode_advantage
    if config.advantage_estimator == "reinforce_plus_plus":
        estimate = reinforce_plus_plus_advantage
    return estimate(score, votes, scale=config.scale, epsilon=config.epsilon, penalised=penalised)


def _decoupled_advantage(batch: StepBatch, config: AdvantageConfig, steps: OrderedSteps) -> Tensor:
    if batch.reward_components is None:
        raise ConfigError("scale_rewards: gdpo wants reward_components in the batch, got none")
    # The environment's own reward is one function more; where it is 0 throughout it adds exactly 0.
    functions = torch.cat([batch.reward_components.to(torch.float64), batch.reward.to(torch.float64)[:, None]], dim=1)
    own = torch.ones(1, dtype=torch.float64, device=functions.device)
    sums = [steps.episodes.broadcast(steps.episodes.sum(column)) for column in steps.arrange(functions).unbind(1)]
    votes = collect_votes(steps, config.episode_statistics)
    weights = torch.cat([reward_weights(batch, config), own])
    return decoupled_episode_advantage(torch.stack(sums, dim=1), weights, votes, config.epsilon)


def _step_advantage(score: Tensor, grouping: Grouping, config: AdvantageConfig) -> Tensor:
    if config.advantage_estimator not in STEP_ESTIMATORS:
        return torch.zeros_like(score)
    relative = group_relative(
        grouping.arrange(score), grouping.groups, scaled=config.norm == "mean_std", epsilon=config.epsilon
    )
    return grouping.restore(relative)


def _hierarchy_advantage(
    score: Tensor, episode: Tensor, grouping: Grouping, steps: OrderedSteps, config: AdvantageConfig
) -> Tensor:
    return hierarchy_advantage(
        score,
        steps,
        grouping,
        history=config.hgpo_history,
        alpha=config.hgpo_alpha,
        episode=episode if config.hgpo_base_group else None,
        scaled=config.norm == "mean_std",
        epsilon=config.epsilon,
    )


def _penalty(batch: StepBatch, config: AdvantageConfig, steps: OrderedSteps) -> Tensor | None:
    if batch.action_valid is None or config.invalid_action_penalty == 0.0:
        return None
    return (~steps.arrange(batch.action_valid)).to(torch.float64) * config.invalid_action_penalty


def _empty(device: torch.device) -> Advantages:
    number = torch.zeros(0, dtype=torch.float64, device=device)
    return Advantages(number, number, number, number, torch.zeros(0, dtype=torch.int64, device=device))
