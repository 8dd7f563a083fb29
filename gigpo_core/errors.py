"""The exceptions of this package."""

from __future__ import annotations


class GigpoError(ValueError):
    """Root of every error this package raises on purpose."""


class ConfigError(GigpoError):
    """A setting is out of its range, or two settings contradict each other."""


class ShapeError(GigpoError):
    """A tensor has another shape than the one its contract names."""


class DtypeError(GigpoError):
    """A tensor has another dtype, or sits on another device, than its contract names."""


class RowError(GigpoError):
    """One row of a batch is wrong; `row` is its position in the batch as given."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(f"row {row}: {message}")
        self.row = row


class NegativeIdError(RowError):
    """An id or a step index is below zero."""


class NonFiniteRewardError(RowError):
    """A reward (or a quantity added to it) is NaN or infinite."""


class DuplicateStepError(RowError):
    """Two rows claim the same (episode_id, step_index)."""


class MissingStepError(RowError):
    """An episode does not hold the steps 0, 1, 2, ... without a gap."""


class EpisodeGroupError(RowError):
    """The rows of one episode name more than one group."""
