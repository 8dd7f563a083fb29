"""The settings of advantage estimation, checked once at construction."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from gigpo_core.algorithms import ESTIMATORS
from gigpo_core.algorithms import Estimator as EstimatorRow
from gigpo_core.errors import ConfigError
from gigpo_core.options import EpisodeStatistics, EstimatorOptions, Norm, RewardScale
from gigpo_core.sections import ESTIMATOR_OPTIONS, OwnEstimatorOptions

__all__ = ["AdvantageConfig", "EpisodeStatistics", "Estimator", "Norm", "RewardScale"]

if TYPE_CHECKING:
    Estimator = str
else:
    Estimator = Literal[tuple(ESTIMATORS)]


@dataclass(frozen=True)
class AdvantageConfig(OwnEstimatorOptions, EstimatorOptions):
    """How advantages are computed. Frozen; every field is checked on construction.

    The options that jobs have too are in `gigpo_core.options` and `gigpo_core.algorithms`; these are the others.

    Raises:
        ConfigError: a value out of range, or a combination that means nothing.
    """

    epsilon: float = 1e-6
    """Added to every standard deviation, reward units, > 0."""
    beta: float = 0.04
    """Weight of `StepBatch.kl` where `kl_in_reward` holds, >= 0."""
    reward_weights: tuple[float, ...] | None = None
    """Weights of `StepBatch.reward_components`; None: all 1."""

    def __post_init__(self) -> None:
        if self.advantage_estimator not in ESTIMATORS:
            known = ", ".join(ESTIMATORS)
            raise ConfigError(f"advantage_estimator: want one of {known}, got {self.advantage_estimator!r}")
        for option in ESTIMATOR_OPTIONS:
            option.check(getattr(self, option.name))
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise ConfigError(f"epsilon: want a finite number > 0, got {self.epsilon}")
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ConfigError(f"beta: want a finite number >= 0, got {self.beta}")
        if any(not math.isfinite(weight) for weight in self.reward_weights or ()):
            raise ConfigError(f"reward_weights: want finite numbers, got {self.reward_weights}")
        if self.scale_rewards is not None:
            self._check_scale(self.scale_rewards)

    def _check_scale(self, wanted: RewardScale) -> None:
        name, scales = self.advantage_estimator, self.row.scales
        if not scales:
            raise ConfigError(f"scale_rewards: {name} is scaled by `norm`; leave scale_rewards out")
        if scales == ("none",) and wanted != "none":
            raise ConfigError(f"scale_rewards: {name} has no scale; want 'none', got {wanted!r}")
        if wanted not in scales:
            known = f"{', '.join(scales[:-1])} or {scales[-1]}"
            raise ConfigError(f"scale_rewards: {wanted} is a form of grpo; {name} wants {known}")
        if wanted == "gdpo" and (self.subtracts_kl or self.invalid_action_penalty > 0):
            raise ConfigError(
                "scale_rewards: gdpo scales each reward function separately; "
                "leave out kl_in_reward and invalid_action_penalty"
            )

    @property
    def row(self) -> EstimatorRow:
        """The estimator's row in the table."""
        return ESTIMATORS[self.advantage_estimator]

    @property
    def scale(self) -> RewardScale:
        """The scale of episode scores after defaults: what `scale_rewards` or `norm` comes down to."""
        by_norm: RewardScale = "group" if self.norm == "mean_std" else "none"
        return self.scale_rewards or self.row.scale or by_norm

    @property
    def spans_batch(self) -> bool:
        """Whether a group's advantages depend on the other groups of its batch."""
        return self.scale in ("batch", "gdpo")

    def alone(self) -> AdvantageConfig:
        """The same for a group that nothing is beside: without the scale that spans the batch, and without the KL."""
        scale = "none" if self.spans_batch else self.scale_rewards
        return replace(self, scale_rewards=scale, kl_in_reward=False, beta=0.0)

    @property
    def step_weight(self) -> float:
        """The factor of A^S in A: omega where the estimator heeds it; 1 where A^S is the whole advantage, as
        under hgpo; 0 without a step level."""
        if self.row.has("gigpo_step_advantage_weight"):
            return self.gigpo_step_advantage_weight
        return float(self.row.step_level)

    @property
    def subtracts_kl(self) -> bool:
        """Whether the KL to the reference model belongs to the reward, after defaults."""
        return self.row.kl_in_reward if self.kl_in_reward is None else self.kl_in_reward
