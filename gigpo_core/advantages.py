"""The entry point of advantage estimation: a batch of steps and a config in, advantages out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gigpo_core.anchors import Grouping, exact_step_groups, first_appearance_labels
from gigpo_core.batch import OrderedSteps, StepBatch, check_columns, order_steps
from gigpo_core.config import AdvantageConfig
from gigpo_core.errors import ConfigError
from gigpo_core.levels import Comparison, levelled_in_groups
from gigpo_core.returns import discounted_returns
from gigpo_core.similarity import similar_step_groups


@dataclass(frozen=True)
class Advantages:
    """The result of `compute_advantages`; every column in the row order of the batch, on its device."""

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
        estimator divides by a deviation. What has nothing to be compared with gets 0, and scores that are equal but for
        the rounding of their sums exactly 0.

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
    returns = discounted_returns(reward, steps.episodes, steps.position, config.gamma, longest=steps.longest)
    comparison = Comparison(
        batch,
        config,
        steps,
        reward=reward,
        returns=levelled_in_groups(returns, reward, steps),
        penalty=_penalty(batch, config, steps),
        states=_step_groups(batch, config, steps),
    )
    found = config.row.levels(comparison)
    return Advantages(
        advantage=steps.restore(found.advantage),
        episode_advantage=steps.restore(found.episode),
        step_advantage=steps.restore(found.step),
        step_return=steps.restore(returns),
        step_group=first_appearance_labels(comparison.states, steps.order),
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
        return exact_step_groups(steps.group_id, steps.arrange(_named_states(batch, config)))
    if batch.anchor_text is None:
        raise ConfigError("anchor_similarity: the batch has no anchor_text to compare")
    rows = range(len(batch.anchor_text)) if steps.order is None else steps.order.tolist()
    return similar_step_groups(steps.group_id, [batch.anchor_text[row] for row in rows], config.anchor_similarity)


def _named_states(batch: StepBatch, config: AdvantageConfig) -> Tensor:
    if config.anchor_state == "text":
        return batch.anchor_key
    if batch.state_key is None:
        raise ConfigError("anchor_state: the batch has no state_key to compare")
    return batch.state_key


def _penalty(batch: StepBatch, config: AdvantageConfig, steps: OrderedSteps) -> Tensor | None:
    if batch.action_valid is None or config.invalid_action_penalty == 0.0:
        return None
    return (~steps.arrange(batch.action_valid)).to(torch.float64) * config.invalid_action_penalty


def _empty(device: torch.device) -> Advantages:
    number = torch.zeros(0, dtype=torch.float64, device=device)
    return Advantages(number, number, number, number, torch.zeros(0, dtype=torch.int64, device=device))
