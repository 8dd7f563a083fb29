"""Rows for trackers: one per batch and one per evaluation, each with its own id."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.contracts.summary import EvaluationResult, PanelResult

_NO_FIGURES = frozenset({"batch", "version", "at_unix_s"})
_EVALUATED = ("success", "standard_error", "return_mean", "length_mean", "invalid_share", "mismatch_kl")


@dataclass(frozen=True)
class Row:
    """Figures at one step.

    `step` is a batch's number, or the policy version that was evaluated: the batch that is trained next.
    """

    id: str
    step: int
    figures: dict[str, float]
    at_unix_s: float = field(default_factory=time.time)


class Tracker(Protocol):
    """One run of one tracking system; whatever it raises ends the tracking, not the job."""

    def log(self, row: Row) -> None:
        """Take one row; it may have been taken before, if the process died at that moment."""

    def close(self, state: str | None) -> None:
        """Accept no further row. The job ended in this state; None: it is taken up again later."""


def batch_row(record: Mapping[str, float]) -> Row:
    """The row of a line of metrics.jsonl."""
    figures = {name: float(value) for name, value in record.items() if name not in _NO_FIGURES}
    batch = int(record["batch"])
    return Row(f"batch {batch}", batch, figures, record.get("at_unix_s", time.time()))


def evaluation_row(result: EvaluationResult) -> Row:
    """The row of an evaluation; its figures are named `evaluation/<label>/<figure>`, `before`, `during` and `after` as
    one curve, `held_out`; those of a mixture's member `evaluation/<label>/<member>/<figure>`."""
    label = "held_out" if result.label in {"before", "during", "after"} else result.label
    places: dict[str, PanelResult] = {f"evaluation/{label}": result}
    places |= {f"evaluation/{label}/{member}": one for member, one in result.members.items()}
    figures = {
        f"{place}/{name}": float(value)
        for place, one in places.items()
        for name in _EVALUATED
        if (value := getattr(one, name)) is not None
    }
    return Row(f"evaluation {result.label} {result.version}", result.version, figures)
