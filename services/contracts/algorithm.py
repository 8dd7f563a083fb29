"""The `algorithm` section of a job spec: advantages and loss. Names are ms-swift's where it has the parameter.

Its fields, their ranges and what they need beside them come from the tables of `gigpo_core`, which load without torch.
Combinations that make no sense are refused here, so that a job does not fail at its first batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from pydantic import Field, create_model, model_validator

from gigpo_core.algorithms import ESTIMATORS, LOSSES, Row
from gigpo_core.options import Option
from gigpo_core.sections import ESTIMATOR_OPTIONS, job_options
from services.contracts.effectless_options import Effect, effective_with, either
from services.contracts.rewards import Rewards
from services.contracts.section import Section

__all__ = [
    "DISCOUNTING_ONE_STEP",
    "ESTIMATORS",
    "KL_IN_REWARD",
    "STEP_ESTIMATORS",
    "Algorithm",
    "advantage_values",
    "config_values",
    "estimator_summaries",
    "keys_of_estimator",
]

T = TypeVar("T")
STEP_ESTIMATORS = frozenset(name for name, row in ESTIMATORS.items() if row.step_level)
"""Estimators with a step level: they need an environment whose states recur."""
KL_IN_REWARD = frozenset(name for name, row in ESTIMATORS.items() if row.kl_in_reward)
"""Estimators that take the KL from the rewards where nobody says."""
DISCOUNTING_ONE_STEP = frozenset(name for name, row in ESTIMATORS.items() if row.discounts_one_step)
"""Estimators that gamma changes even where episodes have one step."""

_TABLES: dict[str, Mapping[str, Row]] = {"advantage_estimator": ESTIMATORS, "loss_type": LOSSES}
"""The options that choose a row, and its table."""


def _owners(option: str, table: Mapping[str, Row]) -> frozenset[str]:
    """The rows that the option changes; none: the table says nothing about it, so it is everybody's."""
    return frozenset(name for name, row in table.items() if row.has(option))


def _effects() -> Iterator[Effect]:
    options = job_options()
    for choice, table in _TABLES.items():
        for option in options:
            if owners := _owners(option.name, table):
                yield effective_with(option.name, choice, owners)
    for option in options:
        for beside in option.beside:
            yield Effect(option.name, beside.reads, beside.holds, beside.wanted)
    yield Effect(
        "kl_estimator",
        ("kl_in_reward", "advantage_estimator"),
        lambda asked, estimator: not _in_reward(asked, estimator),
        "the KL in the loss (kl_in_reward: false)",
    )


def _in_reward(asked: bool | None, estimator: str) -> bool:
    return estimator in KL_IN_REWARD if asked is None else asked


def _field(option: Option) -> Any:
    """The option's type and field, as pydantic takes them."""
    table = _TABLES.get(option.name)
    kind = Literal[tuple(table)] if table else option.type
    default = option.default if option.jobs.default is ... else option.jobs.default
    bounds = vars(option.jobs.bounds or option.bounds) if option.bounds else {}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return (kind, Field(default, description=option.doc, **given))


if TYPE_CHECKING:
    from gigpo_core.options import (
        CorrectionOptions,
        EstimatorOptions,
        IterationOptions,
        LossOptions,
        MaskOptions,
        SamplingOptions,
    )
    from gigpo_core.sections import OwnEstimatorOptions, OwnLossOptions

    class _Options(
        Section,
        EstimatorOptions,
        OwnEstimatorOptions,
        SamplingOptions,
        LossOptions,
        MaskOptions,
        OwnLossOptions,
        IterationOptions,
        CorrectionOptions,
    ):
        """The fields of the section."""

else:
    _Options = create_model(
        "_Options", __base__=Section, __module__=__name__, **{one.name: _field(one) for one in job_options()}
    )


class Algorithm(_Options):
    """Advantages and loss; exact semantics in docs/algorithms.md."""

    effects: ClassVar[tuple[Effect, ...]] = tuple(_effects())

    @model_validator(mode="after")
    def _caps_are_above_the_clip(self) -> Algorithm:
        if LOSSES[self.loss_type].clips == "cap" and self.epsilon_high is None:
            raise ValueError(
                f"epsilon_high: {self.loss_type} caps the ratio itself there, want a number such as 5.0, got none"
            )
        upper = 1.0 + (self.epsilon if self.epsilon_high is None else self.epsilon_high)
        if self.delta is not None and self.delta <= upper:
            raise ValueError(f"delta: want more than 1 + epsilon_high = {upper:g}, got {self.delta:g}")
        return self

    @model_validator(mode="after")
    def _scale_is_one_of_the_estimators(self) -> Algorithm:
        scales = ESTIMATORS[self.advantage_estimator].scales
        if self.scale_rewards is not None and self.scale_rewards not in scales:
            raise ValueError(
                f"scale_rewards: {self.advantage_estimator} wants {either(scales)}, got {self.scale_rewards}"
            )
        return self

    @property
    def subtracts_kl(self) -> bool:
        """Whether the KL to the reference policy is taken from the rewards, after defaults; otherwise `beta` weighs it
        in the loss."""
        return self.beta > 0 and _in_reward(self.kl_in_reward, self.advantage_estimator)

    @property
    def compares_groups(self) -> bool:
        """Whether the loss needs whole groups together."""
        return LOSSES[self.loss_type].whole_groups


def estimator_summaries() -> dict[str, str]:
    """Estimator -> what it compares, in a few words."""
    return {name: row.summary for name, row in ESTIMATORS.items()}


def config_values(algorithm: Algorithm, options: tuple[Option, ...]) -> dict[str, Any]:
    """The section's values of these options by name; without those that its estimator and its loss do not heed, whose
    defaults in `gigpo_core` have no effect."""
    return {one.name: getattr(algorithm, one.name) for one in options if _heeded(one.name, algorithm)}


def _heeded(option: str, algorithm: Algorithm) -> bool:
    owners = ((getattr(algorithm, choice), _owners(option, table)) for choice, table in _TABLES.items())
    return all(chosen in heeding for chosen, heeding in owners if heeding)


def advantage_values(algorithm: Algorithm, rewards: Rewards | None = None) -> dict[str, Any]:
    """The meaning of a job's sections to `gigpo_core.AdvantageConfig`, by its names.

    gdpo has no penalty: an unchanged default is no request.
    """
    values = config_values(algorithm, ESTIMATOR_OPTIONS)
    if algorithm.scale_rewards == "gdpo":
        values["invalid_action_penalty"] = 0.0
    return {
        **values,
        "kl_in_reward": algorithm.subtracts_kl,
        "beta": algorithm.beta if algorithm.subtracts_kl else 0.0,
        "reward_weights": (rewards.weights if rewards else ()) or None,
    }


def keys_of_estimator(estimator: str, algorithm: Mapping[str, T]) -> dict[str, T]:
    """The section without the keys that only other estimators have."""

    def kept(name: str) -> bool:
        owners = _owners(name, ESTIMATORS)
        return not owners or estimator in owners

    return {name: value for name, value in algorithm.items() if kept(name)}
