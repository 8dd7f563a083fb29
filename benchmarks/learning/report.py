"""A comparison in files: its runs as they end, the estimators set against each other, and their curves."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from gigpo.client.contrast import contrast
from services.contracts.summary import EvaluationResult

SMOOTHED = 10
"""Batches in a point of a curve."""


def contrasts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence on each two estimators, paired by task and seed."""
    results: dict[str, dict[int, EvaluationResult]] = {}
    for row in rows:
        results.setdefault(row["estimator"], {})[row["seed"]] = EvaluationResult.model_validate(row["after"])
    found = [contrast(first, second) for first, second in combinations(results.items(), 2)]
    return [str(one) for one in found if one is not None]


def write_report(path: Path, rows: Sequence[dict[str, Any]], **facts: str) -> None:
    """The runs that have ended, by estimator and seed; the file is whole at any time."""
    runs = sorted(rows, key=lambda row: (row["estimator"], row["seed"]))
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({**facts, "contrasts": contrasts(runs), "runs": runs}, indent=1) + "\n")
    os.replace(unfinished, path)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Each estimator's training success by environment steps: the mean over its seeds, and the range of them."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(9, 6))
    steps = np.linspace(0, min(row["curve_env_steps"][-1] for row in rows), 200)
    for number, estimator in enumerate(dict.fromkeys(row["estimator"] for row in rows)):
        own = [row for row in rows if row["estimator"] == estimator]
        curves = np.array([np.interp(steps, row["curve_env_steps"], _smooth(row["curve"])) for row in own])
        panel.plot(steps, curves.mean(0), color=f"C{number}", label=f"{estimator} ({len(own)} seeds)")
        panel.fill_between(steps, curves.min(0), curves.max(0), color=f"C{number}", alpha=0.12)
    panel.set(xlabel="environment steps", ylabel=f"training success, mean of {SMOOTHED} batches", ylim=(0, 1))
    panel.legend(loc="upper left", fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def _smooth(curve: Sequence[float]) -> list[float]:
    """Each value's mean with those before it."""
    windows = [curve[max(0, at + 1 - SMOOTHED) : at + 1] for at in range(len(curve))]
    return [sum(window) / len(window) for window in windows]
