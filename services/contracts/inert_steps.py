"""Tells from a batch's metrics when the step level of an estimator says nothing.

The API's alarm, the job's summary and the trainer read it from here, so all of them say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from services.contracts.algorithm import STEP_ESTIMATORS
from services.contracts.job import JobSpec

ALONE = 0.95
"""Share of steps that are alone in their step group."""
FULL = 0.9
"""Least share of the size that step groups have where the anchor is one constant."""
EVEN = 0.75
"""Least mean size of a group's step groups, as a share of its episodes, where the anchor says the step's index alone.
The later steps of long episodes have fewer peers."""
ALIASED = 0.5
"""Share of steps whose step group holds more than one exact state: a policy that walks one way has large step groups
too, but its steps are in equal states."""
SILENT = 0.01
"""Share of the step level in the size of the advantages."""
LEARNED = 0.9
"""Success from which on equal episodes are no sign of trouble."""


@dataclass(frozen=True)
class StepLevel:
    """The settings of a job's step level."""

    estimator: str
    generations: int
    """Episodes of a group."""
    weight: float
    """omega."""

    @staticmethod
    def of(spec: JobSpec) -> StepLevel:
        """Return the step level of a job."""
        algorithm = spec.algorithm
        return StepLevel(
            algorithm.advantage_estimator, spec.rollout.num_generations, algorithm.gigpo_step_advantage_weight
        )


def inert_streak(level: StepLevel, rows: Sequence[Mapping[str, object]]) -> tuple[int, str]:
    """How many of the newest batches in a row had an inert step level, and why the newest one had.

    Args:
        rows: metrics of batches, the newest first.

    Returns:
        0 and an empty text for estimators without a step level, or where it works.
    """
    if level.estimator not in STEP_ESTIMATORS or not rows:
        return 0, ""
    return sum(1 for _ in takewhile(lambda row: inert_cause(level, row), rows)), inert_cause(level, rows[0])


def inert_cause(level: StepLevel, row: Mapping[str, object]) -> str:
    """Why a batch's step level is inert, as the beginning of a sentence; empty: it is not, or nothing tells."""
    success = _number(row, "success")
    if (success is not None and success >= LEARNED) or not row.get("trained_rows"):
        return ""
    alone = _number(row, "step_group_share_1")
    if alone is not None and alone >= ALONE:
        return f"{alone:.1%} of the steps are in a state that no other step was in"
    if cause := _constant(level.generations, row):
        return cause
    share, episodes = _number(row, "step_advantage_share"), _number(row, "episode_advantage_abs")
    if level.weight and share is not None and share <= SILENT and episodes:
        return f"the step level is {share:.2%} of the advantages' size"
    return ""


def _constant(generations: int, row: Mapping[str, object]) -> str:
    """One anchor for all states, or one for each step index."""
    mean, largest = _number(row, "step_group_size_mean"), _number(row, "step_group_size_max")
    steps, episodes = _number(row, "env_steps"), _number(row, "episodes")
    aliased = _number(row, "aliased_anchor_share")
    if mean is None or largest is None or steps is None or not episodes or aliased is None:
        return ""
    if generations < 2 or aliased < ALIASED or steps < 2 * episodes:
        return ""
    whole = generations * steps / episodes
    if mean >= FULL * whole:
        return f"a step group holds {mean:.1f} steps on average, nearly all {whole:.1f} of a group, in different states"
    if largest <= generations and mean >= EVEN * generations:
        return (
            f"a step group holds {mean:.1f} steps on average, one of nearly each of {generations} episodes, in "
            "different states"
        )
    return ""


def _number(row: Mapping[str, object], name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else None
