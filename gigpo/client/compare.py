"""Compares estimators over several seeds: the jobs of a comparison, and the statistics of their results."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from pydantic import JsonValue

from gigpo.client.budget import PARTS, Budget, Result, measured
from gigpo.client.contrast import Contrast, contrast
from gigpo.client.document import checked, section, submission
from gigpo.client.errors import BadInput
from gigpo.client.models import JsonObject
from gigpo.client.statistics import Interval, mean_interval, steps_to_reach
from services.contracts.algorithm import KL_IN_REWARD, Algorithm, keys_of_estimator
from services.contracts.states import JobState
from services.contracts.summary import EvaluationResult


@dataclass(frozen=True)
class Cell:
    """One job of a comparison."""

    estimator: str
    seed: int
    spec: JsonObject
    """The spec that is submitted."""

    @property
    def name(self) -> str:
        return f"{self.estimator}-s{self.seed}"

    @property
    def sha(self) -> str:
        """Names the spec: an equal one need not run again."""
        return hashlib.sha256(json.dumps(self.spec, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Row:
    """One estimator over its seeds."""

    estimator: str
    success_before: Interval | None
    success_after: Interval | None
    """Held out, after training or at the budget."""
    training_success: Interval | None
    """Mean over all batches: the area under the learning curve."""
    batches_to_threshold: Interval | None
    """Interval over the seeds that reached the threshold."""
    reached: int
    env_steps: Interval | None
    tokens: Interval | None
    """Sampled for training."""
    seconds: Interval | None
    """Wall time of the batches."""
    seeds: int
    members: dict[str, Interval] = field(default_factory=dict)
    """Each member's held-out success in a mixture, as `success_after`."""


def comparison_cells(
    document: Mapping[str, JsonValue], name: str, estimators: Sequence[str], seeds: Sequence[int]
) -> list[Cell]:
    """All jobs, seed by seed, so that an interrupted comparison is balanced. Raises BadInput for a bad spec.

    Estimator, its own keys, seed and name apart the specs are equal: the same normalisation, entropy, budget and
    evaluation panel. The KL is in the loss of all of them unless the document says where it is, because estimators
    differ in their default.
    """
    return [Cell(estimator, seed, _spec(document, name, estimator, seed)) for seed in seeds for estimator in estimators]


def _spec(document: Mapping[str, JsonValue], name: str, estimator: str, seed: int) -> JsonObject:
    changed = copy.deepcopy(dict(document))
    changed["name"] = f"{name}-{estimator}-s{seed}"
    algorithm = keys_of_estimator(estimator, section(changed, "algorithm"))
    changed["algorithm"] = {**_kl_in_loss(estimator, algorithm), "advantage_estimator": estimator}
    changed["training"] = {**section(changed, "training"), "seed": seed}
    return submission(checked(changed))


def _kl_in_loss(estimator: str, algorithm: JsonObject) -> JsonObject:
    beta = algorithm.get("beta", Algorithm().beta)
    if estimator not in KL_IN_REWARD or beta == 0 or algorithm.get("kl_in_reward") is not None:
        return algorithm
    return {**algorithm, "kl_in_reward": False}


def earlier_job(folder: Path, cell: Cell) -> str | None:
    """The job whose results an earlier call put there for this cell; None: there are none.

    Raises BadInput when they are of another spec.
    """
    try:
        stamp = json.loads((folder / "cell.json").read_text())
        sha, job_id = str(stamp["sha"]), str(stamp.get("job", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if sha != cell.sha:
        raise BadInput(
            f"{folder} holds results of another comparison, whose spec differs; give this one a --name of its own, or "
            "--force, which replaces them"
        )
    return job_id


def read_result(folder: Path, cell: Cell) -> Result | None:
    """The cell's result when the folder holds that of a job that succeeded, of this very spec."""
    try:
        if json.loads((folder / "cell.json").read_text())["sha"] != cell.sha:
            return None
        summary = json.loads((folder / "summary.json").read_text())
        if summary["state"] != JobState.SUCCEEDED:
            return None
        metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError, KeyError):
        return None
    return Result(cell.estimator, cell.seed, summary, metrics)


def comparison_rows(
    results: Sequence[Result], estimators: Sequence[str], threshold: float, budget: Budget | None = None
) -> list[Row]:
    """A row an estimator, in the given order."""
    return [
        _row(estimator, [one for one in results if one.estimator == estimator], threshold, budget)
        for estimator in estimators
    ]


def _row(estimator: str, results: Sequence[Result], threshold: float, budget: Budget | None) -> Row:
    curves = [success_curve(one.metrics) for one in results]
    after = [one for result in results if (one := measured(result, budget)) is not None]
    reached = [at for curve in curves if (at := steps_to_reach(curve, threshold)) is not None]
    return Row(
        estimator=estimator,
        success_before=mean_interval(_values(results, "success_before")),
        success_after=mean_interval([one.success for one in after]),
        training_success=mean_interval([fmean(y for _, y in curve) for curve in curves if curve]),
        batches_to_threshold=mean_interval(reached),
        reached=len(reached),
        env_steps=mean_interval(_values(results, "env_steps")),
        tokens=mean_interval(_values(results, "sampled_tokens")),
        seconds=mean_interval([batches_s(one.metrics) for one in results]),
        seeds=len(results),
        members=_members(after),
    )


def _members(after: Sequence[EvaluationResult]) -> dict[str, Interval]:
    names = dict.fromkeys(name for one in after for name in one.members)
    found = {name: [one.members[name].success for one in after if name in one.members] for name in names}
    return {name: interval for name, values in found.items() if (interval := mean_interval(values)) is not None}


def contrasts(results: Sequence[Result], estimators: Sequence[str], budget: Budget | None = None) -> list[Contrast]:
    """The last estimator against each other one, after training or at the budget."""
    by_estimator: dict[str, dict[int, EvaluationResult]] = {name: {} for name in estimators}
    for result in results:
        if result.estimator in by_estimator and (one := measured(result, budget)) is not None:
            by_estimator[result.estimator][result.seed] = one
    *others, last = by_estimator.items()
    return [found for other in others if (found := contrast(last, other)) is not None]


def unmeasured(results: Sequence[Result], budget: Budget | None) -> list[str]:
    """Names of the jobs that no evaluation stands for, which the contrasts leave out."""
    return [result.name for result in results if measured(result, budget) is None]


def batches_s(metrics: Sequence[Mapping[str, JsonValue]]) -> float:
    """Wall time of the batches, as far as it is known."""
    found = [row.get(name) for row in metrics for name in PARTS["seconds"]]
    return sum(float(value) for value in found if isinstance(value, int | float))


def success_curve(metrics: Sequence[Mapping[str, JsonValue]]) -> list[tuple[float, float]]:
    """(batch, success) of the training episodes."""
    pairs = [(row.get("batch"), row.get("success")) for row in metrics]
    return [(x, y) for x, y in pairs if isinstance(x, int | float) and isinstance(y, int | float)]


def _values(results: Sequence[Result], name: str) -> list[float]:
    found = [one.summary.get(name) for one in results]
    return [float(value) for value in found if isinstance(value, int | float)]
