"""Two estimators of a comparison set against each other, paired by task and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from gigpo.client.statistics import t_quantile_975
from services.contracts.summary import EvaluationResult
from services.contracts.task_panel import CRASHED, NOT_PLAYED, WON

MOST_SEEDS = 1_000
"""A difference that needs more is not settled by seeds."""

Row = list[float]
"""The difference of each task's outcomes under one seed, in the panel's order."""


@dataclass(frozen=True)
class Contrast:
    """How much more held-out success `first` has than `second`."""

    first: str
    second: str
    difference: float
    """Mean over the seeds that both have."""
    half_width: float | None
    """Half width of the 95 % interval for other seeds and other tasks of the kind; None: one seed has none."""
    effect: float | None
    """The difference in standard deviations of the seeds' differences; None: no such deviation is known, or it is 0."""
    seeds: int
    tasks: int
    """Tasks that pair each seed's difference; 0: not known, it is paired by seed alone."""
    further_seeds: int | None
    """Further seeds that would settle a difference of this size; 0: settled; None: more than 1,000, or unknown."""
    same_panel: bool = True
    """False: the two were measured on different tasks, which settles nothing."""

    @property
    def settled(self) -> bool:
        """Whether one is ahead: the interval leaves 0 out, and both played the same tasks."""
        return self.same_panel and self.half_width is not None and abs(self.difference) > self.half_width

    def __str__(self) -> str:
        width = "" if self.half_width is None else f" ± {self.half_width:.3f}"
        paired = f"{self.seeds} seeds" + (f" x {self.tasks:,} tasks" if self.tasks else "")
        effect = "" if self.effect is None else f", effect {self.effect:.2f}"
        figures = f"{self.first} - {self.second}: {self.difference:+.3f}{width} ({paired}{effect})"
        return f"{figures}; {self._verdict()}"

    def _verdict(self) -> str:
        if self.settled:
            best, other = (self.first, self.second) if self.difference > 0 else (self.second, self.first)
            return f"{best} is ahead of {other}"
        if not self.same_panel:
            return "not settled: they played different panels of tasks"
        if self.half_width is None:
            return "not settled: one seed has no interval"
        if self.further_seeds is None:
            return f"not settled: {MOST_SEEDS:,} seeds would not settle a difference of this size; more tasks might"
        return f"not settled: about {self.further_seeds} further seeds would settle a difference of this size"


def contrast(
    first: tuple[str, Mapping[int, EvaluationResult]], second: tuple[str, Mapping[int, EvaluationResult]]
) -> Contrast | None:
    """The difference of two estimators, each with its results by seed; None: they have no seed in common."""
    pairs = [(first[1][seed], second[1][seed]) for seed in sorted(first[1].keys() & second[1].keys())]
    if not pairs:
        return None
    rows, same = _differences(pairs), all(_same_tasks(one, pairs[0][0]) for pair in pairs for one in pair)
    tasks = len(rows[0]) if same and rows else 0
    means = [fmean(row) for row in rows] if tasks else [one.success - other.success for one, other in pairs]
    by_seed, by_task = _variances(rows if tasks else [[mean] for mean in means])
    mean, count = fmean(means), len(means)
    half = None if by_seed is None else _half_width(count, by_seed, by_task)
    return Contrast(
        first=first[0],
        second=second[0],
        difference=mean,
        half_width=half,
        effect=mean / math.sqrt(by_seed) if by_seed else None,
        seeds=count,
        tasks=tasks,
        further_seeds=_further_seeds(mean, count, by_seed, by_task) if same else None,
        same_panel=same,
    )


def _same_tasks(one: EvaluationResult, other: EvaluationResult) -> bool:
    """Whether two results of one spec are of the same tasks.

    A task that was not played has no known observation, so it gives its panel another id: such a result is believed.
    Results of older releases are too.
    """
    if one.panel is None or other.panel is None or one.panel == other.panel:
        return True
    unknown = any(letter in one.outcomes + other.outcomes for letter in (CRASHED, NOT_PLAYED))
    return unknown and len(one.outcomes) == len(other.outcomes)


def _differences(pairs: Sequence[tuple[EvaluationResult, EvaluationResult]]) -> list[Row]:
    """Seeds x tasks, of the tasks that were played everywhere; empty: the tasks' outcomes are not known."""
    outcomes = [one.outcomes for pair in pairs for one in pair]
    if not all(outcomes) or len({*map(len, outcomes)}) > 1:
        return []
    played = [at for at in range(len(outcomes[0])) if all(one[at] != NOT_PLAYED for one in outcomes)]
    return [
        [float((one.outcomes[at] == WON) - (other.outcomes[at] == WON)) for at in played] for one, other in pairs
    ] * bool(played)


def _variances(rows: Sequence[Row]) -> tuple[float | None, float]:
    """(variance of a seed's mean, None for one seed; the tasks' part in the variance of the mean of all).

    Crossed random effects: seeds and tasks are samples of those that might have been drawn. A seed's mean varies at
    least as much as the chance of its tasks alone makes it.
    """
    seeds, tasks = len(rows), len(rows[0])
    if seeds < 2:
        return None, 0.0
    means = [fmean(row) for row in rows]
    by_seed = stdev(means) ** 2
    if tasks < 2:
        return by_seed, 0.0
    columns, whole = [fmean(column) for column in zip(*rows, strict=True)], fmean(means)
    residues = (
        (value - mean - column + whole) ** 2
        for row, mean in zip(rows, means, strict=True)
        for value, column in zip(row, columns, strict=True)
    )
    chance = sum(residues) / ((seeds - 1) * (tasks - 1))
    by_task = max(0.0, (seeds * stdev(columns) ** 2 - chance) / (seeds * tasks))
    return max(by_seed, chance / tasks), by_task


def _half_width(seeds: int, by_seed: float, by_task: float) -> float:
    return t_quantile_975(seeds - 1) * math.sqrt(by_seed / seeds + by_task)


def _further_seeds(mean: float, seeds: int, by_seed: float | None, by_task: float) -> int | None:
    if by_seed is None:
        return None
    for count in range(seeds, MOST_SEEDS + 1):
        if _half_width(count, by_seed, by_task) < abs(mean):
            return count - seeds
    return None
