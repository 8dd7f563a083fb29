"""The one definition of every option of advantages and losses: type, range, default, meaning. Free of torch.

The configurations of this package, a job's section `algorithm`, its flags, its checks and the table in
docs/algorithms.md are made from these classes. `gigpo_core.algorithms` says which estimator or loss uses an option. The
order of the fields is the order in a job's document.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from gigpo_core.errors import ConfigError

T = TypeVar("T")
Norm = Literal["mean", "mean_std"]
EpisodeStatistics = Literal["per_episode", "per_step"]
RewardScale = Literal["group", "batch", "none", "gdpo"]
AnchorState = Literal["text", "exact"]
ImportanceLevel = Literal["token", "sequence", "sequence_token"]
KlEstimator = Literal["k1", "k2", "k3"]
CorrectionMode = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


@dataclass(frozen=True)
class Bounds:
    """The range of a number; a bound that is None does not bind."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def hold(self, value: float) -> bool:
        """Whether the value is a finite number inside."""
        return (
            math.isfinite(value)
            and (self.ge is None or value >= self.ge)
            and (self.gt is None or value > self.gt)
            and (self.le is None or value <= self.le)
            and (self.lt is None or value < self.lt)
        )

    def __str__(self) -> str:
        if self.ge is not None and self.le is not None:
            return f"in [{self.ge:g}, {self.le:g}]"
        if self.gt is not None and self.lt is not None:
            return f"strictly between {self.gt:g} and {self.lt:g}"
        pairs = ((">=", self.ge), (">", self.gt), ("<=", self.le), ("<", self.lt))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in pairs if bound is not None)


@dataclass(frozen=True)
class Beside:
    """The option changes something only where other options of the job have certain values."""

    reads: tuple[str, ...]
    """The other options."""
    holds: Callable[..., bool]
    """Whether the option has an effect, from their values in the order of `reads`."""
    wanted: str
    """The condition of `holds`, in words that go on after `want`."""


@dataclass(frozen=True)
class ForJobs:
    """The difference of a job from this package: people fill in a job, tests and other programs call the package."""

    default: object = ...
    """... : the same."""
    bounds: Bounds | None = None


@dataclass(frozen=True)
class Option:
    """One option, read from a field `name: Annotated[type, "meaning", Bounds, Beside, ForJobs] = default`."""

    name: str
    type: Any
    """The option's type without metadata: `float`, `Literal[...]`, `float | None`."""
    default: object
    doc: str | None
    bounds: Bounds | None
    beside: tuple[Beside, ...]
    jobs: ForJobs

    def check(self, value: Any) -> None:
        """Raise ConfigError unless the value is one of the choices or inside the bounds."""
        kinds = [kind for kind in _alternatives(self.type) if kind is not type(None)]
        optional = kinds != _alternatives(self.type)
        choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        if optional and value is None:
            return
        if choices and value not in choices:
            known = [*choices, *([None] if optional else [])]
            raise ConfigError(f"{self.name}: want one of {', '.join(map(str, known))}, got {value!r}")
        if self.bounds is not None and not self.bounds.hold(value):
            number = "an integer" if int in kinds else "a finite number"
            raise ConfigError(f"{self.name}: want {'None or ' * optional}{number} {self.bounds}, got {value}")


def _alternatives(kind: object) -> list[object]:
    return [kind] if get_origin(kind) is Literal or not get_args(kind) else list(get_args(kind))


@cache
def options_of(part: type) -> tuple[Option, ...]:
    """The annotated fields of a dataclass as options, in their order; plain fields are none."""
    hints = get_type_hints(part, include_extras=True)
    return tuple(_option(field, hints[field.name]) for field in fields(part) if _is_annotated(hints[field.name]))


def _is_annotated(hint: object) -> bool:
    return get_origin(hint) is Annotated


def _option(field: Field[object], hint: object) -> Option:
    kind, *metadata = get_args(hint)

    def found(wanted: type[T]) -> list[T]:
        return [one for one in metadata if isinstance(one, wanted)]

    return Option(
        name=field.name,
        type=kind,
        default=field.default,
        doc=next(iter(found(str)), None),
        bounds=next(iter(found(Bounds)), None),
        beside=tuple(found(Beside)),
        jobs=next(iter(found(ForJobs)), ForJobs()),
    )


@dataclass(frozen=True)
class EstimatorOptions:
    """How a group's episodes and steps are compared."""

    advantage_estimator: Annotated[
        str,
        "How episodes and steps are compared: gigpo, hgpo, graphgpo, gagpo and g2po also compare steps from one state.",
    ] = "grpo"
    gigpo_step_advantage_weight: Annotated[
        float,
        "omega >= 0: weight of the step-level advantage. With 0 the step level is still computed and shown.",
        Bounds(ge=0),
    ] = 1.0
    gamma: Annotated[
        float, "Discount of the step returns, which estimators with a step level compare.", Bounds(ge=0, le=1)
    ] = 0.95
    norm: Annotated[
        Norm,
        "F_norm: divide by 1, or by the sample standard deviation. rloo has no scale.",
        Beside(("scale_rewards",), lambda scale: scale is None, "no scale_rewards (it takes the place of norm)"),
    ] = "mean"
    scale_rewards: Annotated[
        RewardScale | None,
        "Divide returns by their group's deviation, by the whole batch's, or not; gdpo: scale each reward function in "
        "its group, then the batch. None: grpo as `norm` says, reinforce_plus_plus by the batch's.",
    ] = None
    episode_statistics: Annotated[
        EpisodeStatistics,
        "Who votes in a group's mean: every episode once, or every step.",
        Beside(
            ("advantage_estimator", "hgpo_base_group"),
            lambda estimator, base: estimator != "hgpo" or base,
            "another advantage_estimator than hgpo, or hgpo_base_group: true,",
        ),
    ] = "per_episode"
    invalid_action_penalty: Annotated[
        float,
        "Taken from an invalid step's own return and episode score.",
        Bounds(ge=0),
        ForJobs(default=0.1),
        Beside(
            ("scale_rewards",),
            lambda scale: scale != "gdpo",
            "another scale_rewards (gdpo scales each function separately)",
        ),
    ] = 0.0
    kl_in_reward: Annotated[
        bool | None,
        "Whether beta times the KL to the reference policy (k1, summed over the step's tokens) is taken from each "
        "step's reward; then it is not in the loss. None: true for rloo and reinforce_plus_plus, otherwise false.",
        Beside(("beta",), lambda beta: beta > 0, "beta > 0"),
        Beside(
            ("scale_rewards",),
            lambda scale: scale != "gdpo",
            "another scale_rewards (gdpo scales each function separately)",
        ),
    ] = None
    anchor_state: Annotated[
        AnchorState,
        "The identity of a state: its anchor text, as the paper groups, or the exact state of the environment.",
    ] = "text"
    anchor_similarity: Annotated[
        float | None,
        "Anchor texts whose Ratcliff-Obershelp ratio is at least this are one state; None: equal texts only.",
        Bounds(gt=0, lt=1),
        Beside(("anchor_state",), lambda state: state == "text", "anchor_state: text (texts are what it compares)"),
    ] = None


@dataclass(frozen=True)
class SamplingOptions:
    """Which groups are trained on."""

    dynamic_sample: Annotated[
        bool, "Drop groups whose episodes all have one return, and play others in their place (DAPO)."
    ] = False
    max_resample_times: Annotated[
        int,
        "With dynamic_sample: rounds of replacement a batch gets; then it is trained as it is.",
        Bounds(ge=1),
        Beside(("dynamic_sample",), bool, "dynamic_sample: true"),
    ] = 3


@dataclass(frozen=True)
class LossOptions:
    """How an advantage moves the policy."""

    loss_type: Annotated[
        str, "The policy loss, and what its sum over tokens is divided by.", ForJobs(default="bnpo")
    ] = "grpo"
    epsilon: Annotated[float, "Clip range below 1.", Bounds(ge=0), ForJobs(bounds=Bounds(gt=0, lt=1))] = 0.2
    epsilon_high: Annotated[
        float | None,
        "Clip range above 1, None: epsilon. For cispo the cap on the ratio itself, required.",
        Bounds(ge=0),
        ForJobs(bounds=Bounds(gt=0)),
    ] = None
    delta: Annotated[float | None, "Upper cap of the unclipped ratio.", Bounds(gt=1)] = None
    importance_sampling_level: Annotated[
        ImportanceLevel, "Whose ratio is clipped: each token's, or the response's (GSPO)."
    ] = "token"
    beta: Annotated[
        float, "Weight of the KL to the reference policy, in loss or reward; 0 = no reference model.", Bounds(ge=0)
    ] = 0.04
    kl_estimator: Annotated[
        KlEstimator, "Estimator of the KL in the loss.", Beside(("beta",), lambda beta: beta > 0, "beta > 0")
    ] = "k3"
    entropy_coef: Annotated[float, "Weight of an entropy bonus.", Bounds(ge=0)] = 0.0


@dataclass(frozen=True)
class MaskOptions:
    """Which response tokens take part; see gigpo_core.masks."""

    top_entropy_quantile: Annotated[
        float,
        "Only this share of the tokens, those of highest entropy, carries a policy gradient.",
        Bounds(gt=0, le=1),
    ] = 1.0
    overlong_filter: Annotated[bool, "Responses that were cut at max_completion_length are no data."] = False


@dataclass(frozen=True)
class IterationOptions:
    """How often a batch is used."""

    num_iterations: Annotated[int, "Times a batch is gone through.", Bounds(ge=1)] = 1


@dataclass(frozen=True)
class CorrectionOptions:
    """The correction for the sampling engine's own probabilities; see gigpo_core.corrections."""

    rollout_importance_sampling_mode: Annotated[
        CorrectionMode | None,
        "How the policy term is corrected for the engine's probabilities; None: not at all.",
        ForJobs(default="token_truncate"),
    ] = None
    rollout_importance_sampling_threshold: Annotated[
        float,
        "Correction weights above this are cut to it, or to 0 with a mask mode.",
        Bounds(ge=0),
        ForJobs(bounds=Bounds(gt=1)),
        Beside(
            ("rollout_importance_sampling_mode",), lambda mode: mode is not None, "a rollout_importance_sampling_mode"
        ),
    ] = 2.0
    off_policy_sequence_mask_delta: Annotated[
        float | None,
        "Silence responses with A < 0 that the policy has moved away from by more, nats per token.",
        Bounds(ge=0),
    ] = None
