"""The `algorithm` section of a job spec: advantages and loss. Names are ms-swift's where it has the parameter.

What means nothing together is refused here, so that a job never finds out at its first batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from services.contracts.effectless_options import Effect, effective_with
from services.contracts.section import Section

STEP_ESTIMATORS = frozenset({"gigpo", "hgpo", "graphgpo"})
"""Estimators with a step level: they need an environment whose states recur."""
_CLIPPED = frozenset({"grpo", "bnpo", "dr_grpo", "dapo", "fipo"})

_ESTIMATORS_WITH = {
    "gamma": STEP_ESTIMATORS,
    "norm": STEP_ESTIMATORS | {"grpo"},
    "gigpo_step_advantage_weight": frozenset({"gigpo", "graphgpo"}),
    "scale_rewards": frozenset({"grpo"}),
    "anchor_state": STEP_ESTIMATORS,
    "anchor_similarity": STEP_ESTIMATORS,
    "hgpo_history": frozenset({"hgpo"}),
    "hgpo_alpha": frozenset({"hgpo"}),
    "hgpo_base_group": frozenset({"hgpo"}),
    "graphgpo_success_reward": frozenset({"graphgpo"}),
}
"""Key -> the estimators that it changes; a key that is not here is everybody's."""
_LOSSES_WITH = {
    "epsilon": _CLIPPED,
    "epsilon_high": _CLIPPED | {"cispo"},
    "delta": _CLIPPED,
    "importance_sampling_level": _CLIPPED | {"cispo"},
    "tau_pos": frozenset({"sapo"}),
    "tau_neg": frozenset({"sapo"}),
    "fipo_decay_rate": frozenset({"fipo"}),
    "fipo_clip_range": frozenset({"fipo"}),
    "fipo_clip_high_only": frozenset({"fipo"}),
    "fipo_safety_threshold": frozenset({"fipo"}),
}
"""Key -> the losses that it changes."""

_EFFECTS = (
    *(effective_with(name, "advantage_estimator", having) for name, having in _ESTIMATORS_WITH.items()),
    *(effective_with(name, "loss_type", having) for name, having in _LOSSES_WITH.items()),
    Effect("norm", ("scale_rewards",), lambda scale: scale is None, "no scale_rewards (it takes the place of norm)"),
    Effect(
        "episode_statistics",
        ("advantage_estimator", "hgpo_base_group"),
        lambda estimator, base: estimator != "hgpo" or base,
        "another advantage_estimator than hgpo, or hgpo_base_group: true,",
    ),
    Effect(
        "anchor_similarity",
        ("anchor_state",),
        lambda state: state == "text",
        "anchor_state: text (texts are what it compares)",
    ),
    Effect(
        "hgpo_alpha",
        ("hgpo_history", "hgpo_base_group"),
        lambda history, base: history > 0 or base,
        "more than one level to weigh, by hgpo_history > 0 or hgpo_base_group: true,",
    ),
    Effect("max_resample_times", ("dynamic_sample",), bool, "dynamic_sample: true"),
    Effect("kl_estimator", ("beta",), lambda beta: beta > 0, "beta > 0"),
    Effect(
        "fipo_clip_high_only", ("fipo_clip_range",), lambda bound: bound is not None, "a number for fipo_clip_range"
    ),
    Effect(
        "rollout_importance_sampling_threshold",
        ("rollout_importance_sampling_mode",),
        lambda mode: mode is not None,
        "a rollout_importance_sampling_mode",
    ),
)

AnchorState = Literal["text", "exact"]


class Algorithm(Section):
    """Advantages and loss; exact semantics in docs/algorithms.md."""

    effects: ClassVar[tuple[Effect, ...]] = _EFFECTS

    advantage_estimator: Literal["grpo", "rloo", "gigpo", "hgpo", "graphgpo"] = "grpo"
    gigpo_step_advantage_weight: float = Field(1.0, ge=0)
    """omega >= 0: weight of the step-level advantage. With 0 the step level is still computed and shown."""
    gamma: float = Field(0.95, ge=0, le=1)
    """Discount of the step returns, which estimators with a step level compare."""
    norm: Literal["mean", "mean_std"] = "mean"
    """F_norm: divide by 1, or by the sample standard deviation. rloo has no scale."""
    scale_rewards: Literal["group", "none"] | None = None
    """grpo: divide returns by their group's deviation, or not; None: as `norm` says."""
    episode_statistics: Literal["per_episode", "per_step"] = "per_episode"
    """Who votes in a group's mean: every episode once, or every step."""
    invalid_action_penalty: float = Field(0.1, ge=0)
    """Taken from an invalid step's own return and episode score."""
    anchor_state: AnchorState = "text"
    """What names a state: its anchor text, as the paper groups, or the exact state of the environment."""
    anchor_similarity: float | None = Field(None, gt=0, lt=1)
    """Anchor texts whose Ratcliff-Obershelp ratio is at least this are one state; None: equal texts only."""
    hgpo_history: int = Field(2, ge=0)
    """hgpo compares rows with the same last 1 .. K+1 anchors."""
    hgpo_alpha: float = Field(1.0, ge=-64, le=64)
    """hgpo: exponent of the level weights (k+1)^alpha."""
    hgpo_base_group: bool = False
    """hgpo: the episode-level advantage takes part in the mean too."""
    graphgpo_success_reward: float = Field(1.0, gt=0)
    """graphgpo: the value of reaching the goal."""
    dynamic_sample: bool = False
    """Drop groups whose episodes all have one return, and play others in their place (DAPO)."""
    max_resample_times: int = Field(3, ge=1)
    """With dynamic_sample: rounds of replacement a batch gets; then it is trained as it is."""

    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "fipo"] = "bnpo"
    epsilon: float = Field(0.2, gt=0, lt=1)
    """Clip range below 1."""
    epsilon_high: float | None = Field(None, gt=0)
    """Clip range above 1, None: epsilon. For cispo the cap on the ratio itself, required."""
    delta: float | None = Field(None, gt=1)
    """Upper cap of the unclipped ratio."""
    importance_sampling_level: Literal["token", "sequence", "sequence_token"] = "token"
    """Whose ratio is clipped: each token's, or the response's (GSPO)."""
    beta: float = Field(0.04, ge=0)
    """Weight of the KL to the reference policy in the loss; 0 = no reference model."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    entropy_coef: float = Field(0.0, ge=0)
    """Weight of an entropy bonus."""
    top_entropy_quantile: float = Field(1.0, gt=0, le=1)
    """Only this share of the tokens, those of highest entropy, carries a policy gradient."""
    overlong_filter: bool = False
    """Responses that were cut at max_completion_length are no data."""
    tau_pos: float = Field(1.0, gt=0)
    """sapo: temperature of the gate for positive advantages."""
    tau_neg: float = Field(1.05, gt=0)
    """sapo: the same for negative ones."""
    fipo_decay_rate: float = Field(32.0, gt=0)
    """fipo: tokens after which a future token counts half."""
    fipo_clip_range: float | None = Field(0.2, gt=0)
    """fipo: bound on the influence weight's distance from 1; None: no bound. (0 would be dapo.)"""
    fipo_clip_high_only: bool = True
    fipo_safety_threshold: float | None = Field(4.0, ge=0)
    num_iterations: int = Field(1, ge=1)
    """Times a batch is gone through."""
    rollout_importance_sampling_mode: (
        Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] | None
    ) = "token_truncate"
    """How the policy term is corrected for the engine's probabilities; None: not at all."""
    rollout_importance_sampling_threshold: float = Field(2.0, gt=1)
    off_policy_sequence_mask_delta: float | None = Field(None, ge=0)
    """Silence responses with A < 0 that the policy has moved away from by more, nats per token."""

    @model_validator(mode="after")
    def _caps_are_above_the_clip(self) -> Algorithm:
        if self.loss_type == "cispo" and self.epsilon_high is None:
            raise ValueError("epsilon_high: cispo caps the ratio itself there, want a number such as 5.0, got none")
        upper = 1.0 + (self.epsilon if self.epsilon_high is None else self.epsilon_high)
        if self.delta is not None and self.delta <= upper:
            raise ValueError(f"delta: want more than 1 + epsilon_high = {upper:g}, got {self.delta:g}")
        return self


def keys_of_estimator(estimator: str, algorithm: Mapping[str, Any]) -> dict[str, Any]:
    """The section without the keys that only other estimators have."""
    return {
        name: value
        for name, value in algorithm.items()
        if name not in _ESTIMATORS_WITH or estimator in _ESTIMATORS_WITH[name]
    }
