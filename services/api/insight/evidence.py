"""The evidence of a diagnosis: everything that a job has recorded, as immutable values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from services.contracts.archive import Group
from services.contracts.messages import Episode, Step
from services.contracts.rest.insight import Figure, Finding, Severity
from services.contracts.rewards import BUILT_IN_REWARDS

OF_OPTIMIZER_STEPS = frozenset({"loss", "policy_loss", "kl", "policy_kl", "entropy", "clip_fraction", "grad_norm"})
"""Means over optimizer steps. Records of earlier versions have them as 0 where no step was taken."""
RECENT = 10
"""Batches that stand for how the job is doing now: one batch alone says little."""


@dataclass(frozen=True)
class Evidence:
    """A job as its diagnosis sees it."""

    spec: Mapping[str, Any]
    """Resolved; of whatever version of the platform."""
    metrics: Sequence[Mapping[str, Any]]
    """One record a trained batch, in order."""
    groups: Sequence[Group] = ()
    """Stored groups of the newest trained batches."""
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The newest evaluation of each label."""
    opened: int = 0
    """Groups opened so far; 0: not known."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Groups that were never trained, by reason."""
    warnings: Sequence[str] = ()
    """Warnings of the job, the newest first."""

    @property
    def first_lesson(self) -> str:
        """The advice for a policy that does not know the tasks yet: only one from scratch can have a warm start."""
        if self.setting("model.model"):
            return "a system message with an example of a good reply, or a larger model"
        return "a longer warm start"

    def setting(self, path: str, default: Any = None) -> Any:
        """A value of the spec by its dotted path."""
        found: Any = self.spec
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return default if found is None else found

    def values(self, name: str) -> list[float]:
        """One metric of every batch that has it as a finite number."""
        steps = name in OF_OPTIMIZER_STEPS
        found = (row.get(name) for row in self.metrics if not (steps and row.get("trained_rows") == 0))
        return [float(one) for one in found if isinstance(one, int | float) and math.isfinite(one)]

    def recent(self, name: str) -> float | None:
        """Mean of a metric over the newest batches that have it; None: none has."""
        values = self.values(name)[-RECENT:]
        return fmean(values) if values else None

    def typical(self, name: str) -> float | None:
        """Median of the same: one batch that stands out does not count."""
        values = self.values(name)[-RECENT:]
        return median(values) if values else None

    @property
    def episodes(self) -> Iterator[Episode]:
        """The stored episodes."""
        return (episode for _, episodes in self.groups for episode in episodes)

    @property
    def steps(self) -> Iterator[Step]:
        """The stored steps."""
        return (step for episode in self.episodes for step in episode.steps)

    @property
    def own_functions(self) -> list[str]:
        """The job's reward functions that are no built-in ones."""
        return [name for name in self.setting("rewards.reward_funcs", []) if name not in BUILT_IN_REWARDS]

    @property
    def judges_success(self) -> bool:
        """Whether `success` means something: without solutions in the rows it is 0, however good a reply is."""
        functions = self.setting("rewards.reward_funcs", [])
        return not functions or "accuracy" in functions or any(self.values("success"))

    @property
    def has_learned(self) -> bool:
        """Success is so high that little is left to learn: then equal groups and a small entropy are no trouble.

        Where success means nothing, the return has risen.
        """
        if not self.judges_success:
            returns = self.values("return_mean")
            return len(returns) > RECENT and fmean(returns[-RECENT:]) > returns[0]
        success = self.recent("success")
        return success is not None and success >= LEARNED


LEARNED = 0.9
"""Share of episodes won, from which on a job counts as one that has learned."""


def finding(
    code: str, severity: Severity, title: str, figures: Sequence[Figure], *, meaning: str, advice: str
) -> Finding:
    """A finding, in order of reading."""
    return Finding(code=code, severity=severity, title=title, figures=list(figures), meaning=meaning, advice=advice)


def figure(name: str, value: float | str, about: str) -> Figure:
    """A figure with four significant digits."""
    return Figure(name=name, value=value if isinstance(value, str | int) else float(f"{value:.4g}"), about=about)
