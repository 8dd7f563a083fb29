"""The `algorithm` section of a job spec: advantages and loss. Names are ms-swift's where it has the parameter.

What means nothing together is refused here, so that a job never finds out at its first batch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from services.contracts.section import Section

STEP_ESTIMATORS = frozenset({"gigpo", "hgpo", "graphgpo"})
"""Estimators with a step level: they need an environment whose states recur."""
WEIGHTED_ESTIMATORS = frozenset({"gigpo", "graphgpo"})
"""Those of them that weigh the step level by omega."""
_CLIPPED = frozenset({"grpo", "bnpo", "dr_grpo", "dapo", "fipo"})


AnchorState = Literal["text", "exact"]


class Algorithm(Section):
    """Advantages and loss; exact semantics in docs/algorithms.md."""

    advantage_estimator: Literal["grpo", "rloo", "gigpo", "hgpo", "graphgpo"] = "grpo"
    gigpo_step_advantage_weight: float = Field(1.0, ge=0)
    """omega >= 0: weight of the step-level advantage."""
    gamma: float = Field(0.95, ge=0, le=1)
    """Discount of the step returns."""
    norm: Literal["mean", "mean_std"] = "mean"
    """F_norm: divide by 1, or by the sample standard deviation."""
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
    fipo_clip_range: float | None = Field(0.2, ge=0)
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
    def _combinations_mean_something(self) -> Algorithm:
        for problem in (self._advantage_problem(), self._loss_problem()):
            if problem is not None:
                raise ValueError(problem)
        return self

    def _advantage_problem(self) -> str | None:
        estimator = self.advantage_estimator
        if estimator not in WEIGHTED_ESTIMATORS and (weight := self.gigpo_step_advantage_weight) != 1.0:
            return (
                f"gigpo_step_advantage_weight: want advantage_estimator: gigpo or graphgpo with it, "
                f"got {estimator} and {weight:g}"
            )
        if self.scale_rewards is not None and estimator != "grpo":
            return f"scale_rewards: want it with grpo only, {estimator} is scaled by `norm` or not at all"
        for name in ("anchor_similarity", "anchor_state"):
            if estimator not in STEP_ESTIMATORS and getattr(self, name) not in (None, "text"):
                return f"{name}: want an estimator that compares states (gigpo, hgpo, graphgpo), got {estimator}"
        if self.anchor_similarity is not None and self.anchor_state == "exact":
            return "anchor_similarity: want anchor_state: text with it (it compares texts), got anchor_state: exact"
        return self._unused({"hgpo_": "hgpo", "graphgpo_": "graphgpo"}, estimator, "advantage_estimator")

    def _loss_problem(self) -> str | None:
        loss = self.loss_type
        if loss == "cispo" and self.epsilon_high is None:
            return "epsilon_high: cispo caps the ratio itself there, want a number such as 5.0, got none"
        if self.delta is not None:
            if loss not in _CLIPPED:
                return f"delta: {loss} has no clipped term to cap, leave it out"
            upper = 1.0 + (self.epsilon if self.epsilon_high is None else self.epsilon_high)
            if self.delta <= upper:
                return f"delta: want more than 1 + epsilon_high = {upper:g}, got {self.delta:g}"
        if loss == "sapo" and self.importance_sampling_level != "token":
            return f"importance_sampling_level: sapo wants token, got {self.importance_sampling_level}"
        return self._unused({"tau_": "sapo", "fipo_": "fipo"}, loss, "loss_type")

    def _unused(self, owners: dict[str, str], chosen: str, choice: str) -> str | None:
        for name in sorted(self.model_fields_set):
            for prefix, owner in owners.items():
                changed = getattr(self, name) != type(self).model_fields[name].default
                if name.startswith(prefix) and changed and owner != chosen:
                    return f"{name}: want {choice}: {owner} with it, got {chosen}"
        return None
