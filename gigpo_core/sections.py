"""The options of the configurations and of a job's section `algorithm`: the shared options and the rows' own ones.

They are collected from the rows when this module is first imported, so a row that is added later has no options. Free
of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import make_dataclass
from typing import TYPE_CHECKING

from gigpo_core.algorithms import ESTIMATORS, LOSSES, Row
from gigpo_core.options import (
    CorrectionOptions,
    EstimatorOptions,
    IterationOptions,
    LossOptions,
    MaskOptions,
    Option,
    SamplingOptions,
    options_of,
)

if TYPE_CHECKING:
    from gigpo_core.algorithms import (
        FipoOptions,
        GagpoOptions,
        GigpoOptions,
        GraphgpoOptions,
        HgpoOptions,
        RealOptions,
        SapoOptions,
    )


def _own_parts(rows: Mapping[str, Row]) -> tuple[type, ...]:
    """The bases of a class in order: dataclasses take the fields of the last base first."""
    return tuple(reversed(dict.fromkeys(row.own for row in rows.values() if row.own is not None)))


if TYPE_CHECKING:

    class OwnEstimatorOptions(GigpoOptions, HgpoOptions, GraphgpoOptions, GagpoOptions):
        """The options that one estimator has."""

    class OwnLossOptions(SapoOptions, RealOptions, FipoOptions):
        """The options that one loss has."""

else:
    OwnEstimatorOptions = make_dataclass("OwnEstimatorOptions", [], bases=_own_parts(ESTIMATORS), frozen=True)
    OwnLossOptions = make_dataclass("OwnLossOptions", [], bases=_own_parts(LOSSES), frozen=True)

ESTIMATOR_OPTIONS: tuple[Option, ...] = (*options_of(EstimatorOptions), *options_of(OwnEstimatorOptions))
"""The part of a job that an `AdvantageConfig` takes."""
LOSS_OPTIONS: tuple[Option, ...] = (
    *options_of(LossOptions),
    *options_of(OwnLossOptions),
    *options_of(CorrectionOptions),
)
"""The part of a job that a `LossConfig` takes."""


def job_options() -> tuple[Option, ...]:
    """The options of a job's section `algorithm`, in its order."""
    return (
        *ESTIMATOR_OPTIONS,
        *options_of(SamplingOptions),
        *options_of(LossOptions),
        *options_of(MaskOptions),
        *options_of(OwnLossOptions),
        *options_of(IterationOptions),
        *options_of(CorrectionOptions),
    )
