"""The settings of a loss, checked once at construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gigpo_core.algorithms import LOSSES, Loss, Reduction
from gigpo_core.errors import ConfigError
from gigpo_core.options import CorrectionOptions, LossOptions
from gigpo_core.sections import LOSS_OPTIONS, OwnLossOptions

__all__ = ["LossConfig", "LossType", "Reduction"]

if TYPE_CHECKING:
    LossType = str
else:
    LossType = Literal[tuple(LOSSES)]


@dataclass(frozen=True)
class LossConfig(CorrectionOptions, OwnLossOptions, LossOptions):
    """How a loss is computed. Frozen; every field is checked on construction.

    The options that jobs have too are in `gigpo_core.options` and `gigpo_core.algorithms`. The KL term is there if
    `TokenBatch.reference_log_prob` is; an entropy bonus needs `TokenBatch.entropy`, a correction `rollout_log_prob`.

    Raises:
        ConfigError: a value out of range, or a combination that means nothing.
    """

    max_completion_length: int = 512
    """Tokens; the fixed divisor of dr_grpo."""

    def __post_init__(self) -> None:
        if self.loss_type not in LOSSES:
            raise ConfigError(f"loss_type: want one of {', '.join(LOSSES)}, got {self.loss_type!r}")
        for option in LOSS_OPTIONS:
            if option.name != "delta":  # its bound depends on others
                option.check(getattr(self, option.name))
        if self.max_completion_length < 1:
            raise ConfigError(f"max_completion_length: want at least 1 token, got {self.max_completion_length}")
        self._check_combination()

    def _check_combination(self) -> None:
        if self.row.clips == "cap" and self.epsilon_high is None:
            raise ConfigError(
                f"epsilon_high: {self.loss_type} caps the ratio itself there; want a number such as 5.0, got None"
            )
        if self.delta is not None:
            if self.row.clips != "both":
                raise ConfigError(f"delta: {self.loss_type} has no clipped term to cap; leave it out")
            if not self.delta > 1.0 + self.upper:
                raise ConfigError(f"delta: want more than 1 + epsilon_high = {1.0 + self.upper:g}, got {self.delta}")
        if self.importance_sampling_level != "token" and not self.row.has("importance_sampling_level"):
            raise ConfigError(
                f"importance_sampling_level: {self.loss_type} wants 'token', got {self.importance_sampling_level!r}"
            )
        if self.row.whole_groups and (
            self.rollout_importance_sampling_mode is not None or self.off_policy_sequence_mask_delta is not None
        ):
            raise ConfigError(
                f"{self.loss_type} compares whole rows and has no per-token term that a correction could weigh"
            )

    @property
    def row(self) -> Loss:
        """The loss's row in the table."""
        return LOSSES[self.loss_type]

    @property
    def upper(self) -> float:
        """`epsilon_high` after its default."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    @property
    def reduction(self) -> Reduction:
        """How tokens are averaged."""
        return self.row.reduction
