"""Equal budgets: what the jobs of a comparison had spent, and what they were worth at that point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue, ValidationError

from gigpo.client.errors import BadInput
from gigpo.client.models import JsonObject
from services.contracts.summary import EvaluationResult

Unit = Literal["env_steps", "tokens", "seconds"]

PARTS: Mapping[Unit, tuple[str, ...]] = {
    "env_steps": ("env_steps",),
    "tokens": ("tokens",),
    "seconds": ("wait_s", "train_s", "publish_s"),
}
"""The cost of a batch, by fields of its metrics. Evaluations and the warm start cost nothing here."""
NEAR = 0.9
"""An evaluation stands for the job at the budget from this share of the budget on."""
_POLICY = ("before", "during", "after")


@dataclass(frozen=True)
class Result:
    """The results of a finished cell."""

    estimator: str
    seed: int
    summary: JsonObject
    metrics: list[JsonObject] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.estimator}-s{self.seed}"


@dataclass(frozen=True)
class Budget:
    """The amount that every job of a comparison may have spent."""

    unit: Unit
    amount: float


def smallest_spent(results: Sequence[Result], unit: Unit) -> Budget | None:
    """The budget that all jobs reached: what the cheapest one spent in all; None: there are no results.

    Raises BadInput: a job's metrics don't tell the unit.
    """
    totals = [_spent(result, unit, len(result.metrics)) for result in results]
    return Budget(unit, min(totals)) if totals else None


def measured(result: Result, budget: Budget | None) -> EvaluationResult | None:
    """The evaluation that represents the job: its newest one inside the budget, otherwise the one after training.

    None: there is none, or the newest one inside the budget is far from it (see `NEAR`).
    """
    found = [one for one in _evaluations(result) if one.label in _POLICY]
    if budget is None:
        return next((one for one in reversed(found) if one.label == "after"), None)
    inside = [(spent, one) for one in found if (spent := _spent(result, budget.unit, one.version)) <= budget.amount]
    spent, newest = max(inside, key=lambda pair: pair[1].version, default=(0.0, None))
    return newest if spent >= NEAR * budget.amount else None


def _evaluations(result: Result) -> list[EvaluationResult]:
    stored = result.summary.get("evaluations")
    try:
        return [EvaluationResult.model_validate(one) for one in stored] if isinstance(stored, list) else []
    except ValidationError as error:
        raise BadInput(f"{result.name}: summary.json: want evaluations, got others: {error}") from error


def _spent(result: Result, unit: Unit, version: int) -> float:
    """Up to a policy version: version v was made by v batches."""
    return sum(_cost(result, row, unit) for row in result.metrics[:version])


def _cost(result: Result, row: Mapping[str, JsonValue], unit: Unit) -> float:
    found = [row.get(name) for name in PARTS[unit]]
    known = [float(value) for value in found if isinstance(value, int | float)]
    if len(known) < len(found):
        raise BadInput(
            f"{result.name}: metrics.jsonl: want {', '.join(PARTS[unit])} in every line to compare at equal {unit}"
        )
    return sum(known)
