"""The table of estimators and losses, one row each: its function, its own options, and the shared options that it uses.

A new one needs a row here and a function in its own module. No other module lists them: configurations, a job's section
`algorithm`, its flags, its checks and the tables of docs/algorithms.md are made from the rows. Free of torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal

from gigpo_core.options import Beside, Bounds, RewardScale, options_of

if TYPE_CHECKING:
    from torch import Tensor

    from gigpo_core.levels import Comparison, Levels
    from gigpo_core.losses import PolicyTerms

Reduction = Literal["grpo", "bnpo", "dr_grpo", "dapo"]


@dataclass(frozen=True)
class GigpoOptions:
    """gigpo's own."""

    step_shrinkage: Annotated[
        float | None,
        "gigpo: compare actions instead of steps: the mean of an action's n rows in a state weighs n, the state's mean "
        "this (ECPO's kappa). 0: the action's mean alone (BiPACE); None: every step by its own return.",
        Bounds(ge=0),
    ] = None
    step_variance_gate: Annotated[
        float | None,
        "gigpo: weigh a state's step level by tanh(rows / this) and by the share of its returns' variance that its "
        "actions explain (ECPO's tau, in rows). None: all states alike.",
        Bounds(gt=0),
    ] = None


@dataclass(frozen=True)
class HgpoOptions:
    """hgpo's own."""

    hgpo_history: Annotated[int, "hgpo compares rows with the same last 1 .. K+1 anchors.", Bounds(ge=0)] = 2
    hgpo_alpha: Annotated[
        float,
        "hgpo: exponent of the level weights (k+1)^alpha.",
        Bounds(ge=-64, le=64),
        Beside(
            ("hgpo_history", "hgpo_base_group"),
            lambda history, base: history > 0 or base,
            "more than one level to weigh, by hgpo_history > 0 or hgpo_base_group: true,",
        ),
    ] = 1.0
    hgpo_base_group: Annotated[bool, "hgpo: the episode-level advantage takes part in the mean too."] = False


@dataclass(frozen=True)
class GraphgpoOptions:
    """graphgpo's own."""

    graphgpo_success_reward: Annotated[float, "graphgpo: the value of reaching the goal.", Bounds(gt=0)] = 1.0


@dataclass(frozen=True)
class GagpoOptions:
    """gagpo's own."""

    gae_lambda: Annotated[
        float,
        "gagpo: lambda, how far a step is judged by later ones. 0: by the next state's value, 1: by its own return.",
        Bounds(ge=0, le=1),
        Beside(("gamma",), lambda gamma: gamma > 0, "gamma > 0"),
    ] = 0.95


@dataclass(frozen=True)
class SapoOptions:
    """sapo's own."""

    tau_pos: Annotated[float, "sapo: temperature of the gate for positive advantages.", Bounds(gt=0)] = 1.0
    tau_neg: Annotated[float, "sapo: the same for negative ones.", Bounds(gt=0)] = 1.05


@dataclass(frozen=True)
class FipoOptions:
    """fipo's own."""

    fipo_decay_rate: Annotated[float, "fipo: tokens after which a future token counts half.", Bounds(gt=0)] = 32.0
    fipo_clip_range: Annotated[
        float | None,
        "fipo: bound on the influence weight's distance from 1; None: no bound. (0 would be dapo.)",
        Bounds(gt=0),
    ] = 0.2
    fipo_clip_high_only: Annotated[
        bool,
        "fipo: the influence weight is never below 1.",
        Beside(("fipo_clip_range",), lambda bound: bound is not None, "a number for fipo_clip_range"),
    ] = True
    fipo_safety_threshold: Annotated[
        float | None,
        "fipo: a token with A < 0 whose ratio is above this has an influence weight of at most 1; None: no such bound.",
        Bounds(ge=0),
    ] = 4.0


@dataclass(frozen=True)
class RealOptions:
    """real's own."""

    real_tau: Annotated[float, "real: temperature of the classification logits.", Bounds(gt=0)] = 0.5


@dataclass(frozen=True)
class Row:
    """The common part of estimators and losses."""

    function: str
    """module:name, loaded on first use."""
    heeds: tuple[str, ...] = ()
    """The shared options that change it; an option that no row heeds is everybody's."""
    own: type | None = None
    """Dataclass of the options that only it has."""

    def has(self, option: str) -> bool:
        """Whether the option changes it, its own ones and the heeded ones."""
        return option in self.heeds or (self.own is not None and any(o.name == option for o in options_of(self.own)))

    def _loaded(self) -> Any:
        module, _, name = self.function.partition(":")
        return getattr(import_module(module), name)


@dataclass(frozen=True)
class Estimator(Row):
    """One way to compare the episodes of a group."""

    summary: str = ""
    """Its comparison, in a few words."""
    step_level: bool = False
    """It compares states: it needs anchors, so an environment of many turns whose states recur."""
    discounts_one_step: bool = False
    """gamma changes it even where episodes have one step."""
    scales: tuple[RewardScale, ...] = ()
    """Allowed values of `scale_rewards`; none: the estimator is scaled by `norm` alone."""
    scale: RewardScale | None = None
    """The scale where none is asked for; None: as `norm` says."""
    kl_in_reward: bool = False
    """Whether the KL belongs to the reward where nobody says."""

    @cached_property
    def levels(self) -> Callable[[Comparison], Levels]:
        """The function."""
        found: Callable[[Comparison], Levels] = self._loaded()
        return found


@dataclass(frozen=True)
class Loss(Row):
    """One policy term."""

    reduction: Reduction = "dapo"
    """How tokens are averaged."""
    clips: Literal["both", "cap", "no"] = "no"
    """both: the ratio is clipped on both sides; cap: its weight is capped at epsilon_high, which has no default; no:
    neither."""
    whole_groups: bool = False
    """The function compares whole rows of whole groups and returns one number, [] and not [T]. It heeds none of
    `PER_TOKEN`, which every other loss heeds."""

    def has(self, option: str) -> bool:
        """Whether the option changes it."""
        return super().has(option) or (option in PER_TOKEN and not self.whole_groups)

    @cached_property
    def policy_term(self) -> Callable[[PolicyTerms], Tensor]:
        """The function."""
        found: Callable[[PolicyTerms], Tensor] = self._loaded()
        return found


PER_TOKEN = (
    "top_entropy_quantile",
    "rollout_importance_sampling_mode",
    "rollout_importance_sampling_threshold",
    "off_policy_sequence_mask_delta",
)
"""Options that weigh the policy term token by token."""

_STEPS = ("gamma", "norm", "anchor_state", "anchor_similarity")
_OMEGA = "gigpo_step_advantage_weight"
_VOTES = "episode_statistics"
_CLIP = ("epsilon", "epsilon_high", "delta", "importance_sampling_level")

ESTIMATORS: dict[str, Estimator] = {
    "grpo": Estimator(
        "gigpo_core.estimators:grpo",
        heeds=("norm", "scale_rewards", _VOTES),
        summary="episodes against their group's mean",
        scales=("group", "batch", "none", "gdpo"),
    ),
    "rloo": Estimator(
        "gigpo_core.estimators:rloo",
        heeds=(_VOTES,),
        summary="episodes against the mean of the others",
        scales=("none",),
        scale="none",
        kl_in_reward=True,
    ),
    "reinforce_plus_plus": Estimator(
        "gigpo_core.estimators:reinforce_plus_plus",
        heeds=("scale_rewards", _VOTES),
        summary="episodes against their group's mean, over the deviation of the whole batch",
        scales=("group", "batch", "none"),
        scale="batch",
        kl_in_reward=True,
    ),
    "gigpo": Estimator(
        "gigpo_core.estimators:gigpo",
        heeds=(*_STEPS, _OMEGA, _VOTES),
        own=GigpoOptions,
        summary="Aᴱ + ω Aˢ: episodes are compared, and so are actions taken in the same state",
        step_level=True,
    ),
    "hgpo": Estimator(
        "gigpo_core.hgpo:hgpo",
        heeds=(*_STEPS, _VOTES),
        own=HgpoOptions,
        summary="actions taken in the same state after the same history",
        step_level=True,
    ),
    "graphgpo": Estimator(
        "gigpo_core.graphgpo:graphgpo",
        heeds=(*_STEPS, _OMEGA, _VOTES),
        own=GraphgpoOptions,
        summary="steps by how near to success they led",
        step_level=True,
        discounts_one_step=True,
    ),
    "gagpo": Estimator(
        "gigpo_core.gagpo:gagpo",
        heeds=_STEPS,
        own=GagpoOptions,
        summary="steps by how far the state they led to is better, as the group's returns tell",
        step_level=True,
    ),
    "g2po": Estimator(
        "gigpo_core.g2po:g2po",
        heeds=(*_STEPS, _OMEGA, _VOTES),
        summary="Aᴱ + ω Aˢ: steps are compared by the value of the state they led to, and by what they gained",
        step_level=True,
    ),
}
"""Estimator -> its row."""

LOSSES: dict[str, Loss] = {
    "grpo": Loss("gigpo_core.losses:clipped", heeds=_CLIP, reduction="grpo", clips="both"),
    "bnpo": Loss("gigpo_core.losses:clipped", heeds=_CLIP, reduction="bnpo", clips="both"),
    "dr_grpo": Loss("gigpo_core.losses:clipped", heeds=_CLIP, reduction="dr_grpo", clips="both"),
    "dapo": Loss("gigpo_core.losses:clipped", heeds=_CLIP, clips="both"),
    "cispo": Loss("gigpo_core.losses:cispo", heeds=("epsilon_high", "importance_sampling_level"), clips="cap"),
    "sapo": Loss("gigpo_core.losses:sapo", own=SapoOptions, reduction="grpo"),
    "real": Loss("gigpo_core.losses:real", own=RealOptions, whole_groups=True),
    "fipo": Loss("gigpo_core.losses:fipo", heeds=_CLIP, own=FipoOptions, clips="both"),
}
"""Loss -> its row; they differ in the term, the reduction, or both."""
