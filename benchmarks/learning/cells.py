"""The cells of a comparison: the spec of each, its run, and what a table says of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

from services.contracts.algorithm import keys_of_estimator
from services.contracts.job import JobSpec, parse_spec

TUNING = 1_000_003
"""Added to `eval_seed`: names tasks of the training split that no evaluation of a job plays."""
STUDENT_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11,
              2.10, 2.09)  # fmt: skip
"""Half a 95 % interval in standard errors, by degrees of freedom from 1; from 20 on 2.0 to 2.09 is taken as 2.09."""


def made_spec(
    document: dict[str, Any], estimator: str | None, seed: int, settings: Sequence[str], panel: str
) -> JobSpec:
    """The job of one cell.

    Args:
        estimator: its name, and options of the algorithm for it alone: `gigpo+step_shrinkage=0`; None: the document's.
    """
    sections: dict[str, Any] = json.loads(json.dumps(document))
    for setting in settings:
        path, _, value = setting.partition("=")
        section, _, key = path.partition(".")
        sections.setdefault(section, {})[key] = yaml.safe_load(value)
    if estimator is not None:
        name, *options = estimator.split("+")
        own = {key: yaml.safe_load(value) for key, _, value in (option.partition("=") for option in options)}
        algorithm = keys_of_estimator(name, sections.get("algorithm", {}))
        sections["algorithm"] = {**algorithm, "advantage_estimator": name, **own}
    sections.setdefault("training", {})["seed"] = seed
    spec = parse_spec(sections)
    if panel == "tuning":
        evaluation = spec.evaluation.model_copy(update={"eval_seed": spec.evaluation.eval_seed + TUNING})
        environment = spec.environment.model_copy(update={"eval_split": spec.environment.train_split})
        if environment.eval_split == spec.environment.eval_split:
            raise SystemExit("--panel tuning: want a train_split that is not the eval_split, both are the same")
        spec = spec.model_copy(update={"evaluation": evaluation, "environment": environment})
    return spec


def learned(
    spec: JobSpec, folder: Path, label: str | None = None, env_steps: int | None = None, perturb: int | None = None
) -> dict[str, Any]:
    """Run one cell to its end; what a table needs of it.

    Args:
        label: of the estimator with its options; None: its name.
        env_steps: see `Run.run`.
        perturb: see `Run`.
    """
    import torch

    from benchmarks.learning.run import Run

    torch.set_num_threads(1)
    run = Run(spec, folder, perturb=perturb)
    position = run.run(env_steps=env_steps)
    after = position.evaluations[-1]
    return {
        "estimator": label or spec.algorithm.advantage_estimator,
        "seed": spec.training.seed,
        "success": after["success"],
        "standard_error": after["standard_error"],
        "panel": after["panel"],
        "after": after,
        "training_success": fmean(row["success"] for row in run.curve[-10:]),
        "env_steps": position.env_steps,
        "tokens": position.tokens,
        "cpu_s": position.cpu_s,
        "curve": [row["success"] for row in run.curve],
        "curve_env_steps": list(accumulate(int(row["env_steps"]) for row in run.curve)),
    }


def cell_folder(out: Path, spec: JobSpec, perturb: int | None = None) -> Path:
    """Name a run's folder; equal specs share one folder, other specs never do."""
    digest = hashlib.sha256(spec.model_dump_json(exclude={"name"}).encode()).hexdigest()[:10]
    other = "" if perturb is None else f"-perturbed{perturb}"
    return out / f"{spec.algorithm.advantage_estimator}-seed{spec.training.seed}-{digest}{other}"


def interval(values: Sequence[float]) -> float:
    """Half of the 95 % confidence interval of the mean of independent runs; 0 for one run."""
    if len(values) < 2:
        return 0.0
    return STUDENT_95[min(len(values) - 2, len(STUDENT_95) - 1)] * stdev(values) / len(values) ** 0.5


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One line a run, then one an estimator."""
    lines = [f"{'estimator':<20}{'seed':>5}{'held out':>16}{'training':>10}{'env steps':>11}{'tokens':>11}{'CPU s':>8}"]
    for row in sorted(rows, key=lambda row: (row["estimator"], row["seed"])):
        held_out = f"{row['success']:.3f} ± {row['standard_error']:.3f}"
        lines.append(
            f"{row['estimator']:<20}{row['seed']:>5}{held_out:>16}{row['training_success']:>10.3f}"
            f"{row['env_steps']:>11,}{row['tokens']:>11,}{sum(row['cpu_s'].values()):>8.0f}"
        )
    for estimator in dict.fromkeys(row["estimator"] for row in rows):
        values = [row["success"] for row in rows if row["estimator"] == estimator]
        lines.append(
            f"{estimator}: {fmean(values):.3f} ± {interval(values):.3f} (95 % interval of {len(values)} seeds), "
            f"{min(values):.3f} to {max(values):.3f}"
        )
    return "\n".join(lines)
