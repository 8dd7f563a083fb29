"""The estimators as the table names them. They are composed of functions in `episodes`, `levels` and `relative`."""

from __future__ import annotations

import torch

from gigpo_core.advantages import reward_weights
from gigpo_core.episodes import (
    collect_votes,
    decoupled_episode_advantage,
    leave_one_out_advantage,
    reinforce_plus_plus_advantage,
)
from gigpo_core.errors import ConfigError
from gigpo_core.evidence import action_advantage, action_groups, evidence_weight, over_deviation
from gigpo_core.levels import Comparison, Levels, episode_alone, episode_level, episode_totals, step_level, summed


def grpo(comparison: Comparison) -> Levels:
    """GRPO (arXiv:2402.03300), or GDPO (arXiv:2601.05242) where the scale says so."""
    gdpo = comparison.config.scale == "gdpo"
    return episode_alone((_decoupled if gdpo else episode_level)(comparison), comparison)


def rloo(comparison: Comparison) -> Levels:
    """RLOO (arXiv:2402.14740)."""
    votes = collect_votes(comparison.steps, comparison.config.episode_statistics)
    penalised = comparison.penalty is not None
    return episode_alone(leave_one_out_advantage(comparison.episode_score, votes, penalised=penalised), comparison)


def reinforce_plus_plus(comparison: Comparison) -> Levels:
    """REINFORCE++ with baseline (arXiv:2501.03262)."""
    config = comparison.config
    episode = reinforce_plus_plus_advantage(
        comparison.episode_score,
        collect_votes(comparison.steps, config.episode_statistics),
        scale=config.scale,
        epsilon=config.epsilon,
        penalised=comparison.penalty is not None,
    )
    return episode_alone(episode, comparison)


def gigpo(comparison: Comparison) -> Levels:
    """GiGPO (arXiv:2505.10978): the step level compares discounted returns; by action, and weighed by the evidence
    of the state, where `step_shrinkage` and `step_variance_gate` say so (ECPO, arXiv:2606.05885)."""
    score = comparison.penalised(comparison.returns)
    step = step_level(score, comparison)
    if comparison.config.step_shrinkage is not None or comparison.config.step_variance_gate is not None:
        step = _by_evidence(step, score, comparison)
    return summed(episode_level(comparison), step, comparison)


def _by_evidence(step: torch.Tensor, score: torch.Tensor, comparison: Comparison) -> torch.Tensor:
    config, states = comparison.config, comparison.states
    if comparison.batch.action_key is None:
        wanted = "step_shrinkage" if config.step_shrinkage is not None else "step_variance_gate"
        raise ConfigError(f"{wanted}: the batch has no action_key to compare")
    actions = action_groups(states, comparison.steps.arrange(comparison.batch.action_key))
    if config.step_shrinkage is not None:
        step = action_advantage(score, states, actions, config.step_shrinkage)
        if config.norm == "mean_std":
            step = over_deviation(step, score, states, config.epsilon)
    if config.step_variance_gate is not None:
        gate = config.step_variance_gate
        step = step * evidence_weight(score, states, actions, scale=gate, epsilon=config.epsilon)
    return step


def _decoupled(comparison: Comparison) -> torch.Tensor:
    batch, config, steps = comparison.batch, comparison.config, comparison.steps
    if batch.reward_components is None:
        raise ConfigError("scale_rewards: gdpo wants reward_components in the batch, got none")
    # The environment's own reward is one function more; where it is 0 throughout it adds exactly 0.
    functions = torch.cat([batch.reward_components.to(torch.float64), batch.reward.to(torch.float64)[:, None]], dim=1)
    own = torch.ones(1, dtype=torch.float64, device=functions.device)
    sums = [steps.episodes.broadcast(episode_totals(column, steps)) for column in steps.arrange(functions).unbind(1)]
    votes, voted = collect_votes(steps, config.episode_statistics), None
    if batch.reward_voted is not None:
        always = torch.ones_like(batch.reward_voted[:, :1])
        voted = steps.arrange(torch.cat([batch.reward_voted, always], dim=1))
    weights = torch.cat([reward_weights(batch, config), own])
    return decoupled_episode_advantage(torch.stack(sums, dim=1), weights, votes, config.epsilon, voted=voted)
