"""The settings of advantage estimation, checked once when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from gigpo_core.errors import ConfigError

Estimator = Literal["grpo", "rloo", "reinforce_plus_plus", "gigpo", "hgpo", "graphgpo"]
Norm = Literal["mean", "mean_std"]
EpisodeStatistics = Literal["per_episode", "per_step"]
RewardScale = Literal["group", "batch", "none", "gdpo"]

STEP_ESTIMATORS = frozenset({"gigpo", "hgpo", "graphgpo"})
"""Estimators with a step level; they need anchors, so a multi-turn environment."""


@dataclass(frozen=True)
class AdvantageConfig:
    """How advantages are computed. Frozen; every field is checked on construction.

    Raises:
        ConfigError: a value out of range, or a combination that means nothing.
    """

    advantage_estimator: Estimator = "grpo"
    gigpo_step_advantage_weight: float = 1.0
    """omega >= 0: weight of A^S beside A^E."""
    gamma: float = 0.95
    """Discount of step returns, in [0, 1]. Episode returns are never discounted."""
    norm: Norm = "mean"
    """F_norm: "mean" divides by 1, "mean_std" by the sample standard deviation + epsilon."""
    episode_statistics: EpisodeStatistics = "per_episode"
    """One vote per episode (the papers), or one per step, which weighs an episode by its length."""
    invalid_action_penalty: float = 0.0
    """Subtracted from a step's own return and own episode score when its action was invalid, >= 0."""
    anchor_similarity: float | None = None
    """None: anchors match by key. Else a threshold strictly between 0 and 1 on `anchor_text`."""
    scale_rewards: RewardScale | None = None
    """For grpo and reinforce_plus_plus. None: "group" under norm mean_std, "none" under norm mean
    (reinforce_plus_plus: "batch"). The step-level estimators are scaled by `norm` alone."""
    epsilon: float = 1e-6
    """Added to every standard deviation, reward units, > 0."""
    kl_in_reward: bool | None = None
    """Subtract beta * `StepBatch.kl` from the reward of each step before anything else.
    None: True for rloo and reinforce_plus_plus where the batch has `kl`, else False."""
    beta: float = 0.04
    """Weight of the KL term, >= 0."""
    reward_weights: tuple[float, ...] | None = None
    """Weights of `StepBatch.reward_components`; None: all 1."""
    hgpo_history: int = 2
    """K >= 0: hgpo groups rows by their last 1 .. K+1 anchors."""
    hgpo_alpha: float = 1.0
    """Exponent of the hgpo level weights (k+1)^alpha."""
    hgpo_base_group: bool = False
    """hgpo: A^E takes part in the mean too, as level k = 0."""
    graphgpo_success_reward: float = 1.0
    """graphgpo: the value of reaching the goal, reward units, > 0; that of A^E's rewards keeps both in scale."""

    def __post_init__(self) -> None:
        _check_choice("advantage_estimator", self.advantage_estimator, get_args(Estimator))
        _check_choice("norm", self.norm, get_args(Norm))
        _check_choice("episode_statistics", self.episode_statistics, get_args(EpisodeStatistics))
        _check_range("gigpo_step_advantage_weight", self.gigpo_step_advantage_weight, 0.0, math.inf)
        _check_range("gamma", self.gamma, 0.0, 1.0)
        _check_range("invalid_action_penalty", self.invalid_action_penalty, 0.0, math.inf)
        _check_range("graphgpo_success_reward", self.graphgpo_success_reward, 5e-324, math.inf)
        _check_range("epsilon", self.epsilon, 5e-324, math.inf)
        _check_range("beta", self.beta, 0.0, math.inf)
        _check_range("hgpo_alpha", self.hgpo_alpha, -64.0, 64.0)
        if self.hgpo_history < 0:
            raise ConfigError(f"hgpo_history: want an integer >= 0, got {self.hgpo_history}")
        if self.anchor_similarity is not None and not 0.0 < self.anchor_similarity < 1.0:
            raise ConfigError(
                f"anchor_similarity: want None or a number strictly between 0 and 1, got {self.anchor_similarity}"
            )
        if any(not math.isfinite(weight) for weight in self.reward_weights or ()):
            raise ConfigError(f"reward_weights: want finite numbers, got {self.reward_weights}")
        self._check_scale()

    def _check_scale(self) -> None:
        if self.scale_rewards is None:
            return
        _check_choice("scale_rewards", self.scale_rewards, get_args(RewardScale))
        if self.advantage_estimator in STEP_ESTIMATORS:
            raise ConfigError(f"scale_rewards: {self.advantage_estimator} is scaled by `norm`; leave scale_rewards out")
        if self.advantage_estimator == "rloo" and self.scale_rewards != "none":
            raise ConfigError(f"scale_rewards: rloo has no scale; want 'none', got {self.scale_rewards!r}")
        if self.advantage_estimator == "reinforce_plus_plus" and self.scale_rewards == "gdpo":
            raise ConfigError("scale_rewards: gdpo is a form of grpo; reinforce_plus_plus wants group, batch or none")
        if self.scale_rewards == "gdpo" and (self.subtracts_kl or self.invalid_action_penalty > 0):
            raise ConfigError(
                "scale_rewards: gdpo scales reward functions apart; leave out kl_in_reward and invalid_action_penalty"
            )

    @property
    def scale(self) -> RewardScale:
        """The scale of episode scores after defaults: what `scale_rewards` or `norm` comes down to."""
        if self.scale_rewards is not None:
            return self.scale_rewards
        if self.advantage_estimator == "rloo":
            return "none"
        if self.advantage_estimator == "reinforce_plus_plus":
            return "batch"
        return "group" if self.norm == "mean_std" else "none"

    @property
    def step_weight(self) -> float:
        """What A^S is multiplied with in A: omega; 1 under hgpo, whose A^S is its whole advantage; else 0."""
        if self.advantage_estimator == "hgpo":
            return 1.0
        return self.gigpo_step_advantage_weight if self.advantage_estimator in STEP_ESTIMATORS else 0.0

    @property
    def subtracts_kl(self) -> bool:
        """Whether the KL to the reference model belongs to the reward, after defaults."""
        if self.kl_in_reward is not None:
            return self.kl_in_reward
        return self.advantage_estimator in ("rloo", "reinforce_plus_plus")


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}: want one of {', '.join(map(str, choices))}, got {value!r}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise ConfigError(f"{name}: want a finite number in [{low:g}, {high:g}], got {value}")
