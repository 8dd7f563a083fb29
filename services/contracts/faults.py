"""Classes of faults: the side that caused an episode to end without a reward."""

from __future__ import annotations

from enum import StrEnum


class FaultClass(StrEnum):
    """The contract of the environment service numbers the same three."""

    INFRA = "infra"
    """The machinery's; the episode is played again."""
    ENV_BUG = "env_bug"
    """The environment's own code failed."""
    MODEL = "model"
    """The model's words caused it."""
