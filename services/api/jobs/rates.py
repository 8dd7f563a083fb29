"""Estimates how long a job will take from earlier, similar jobs of this installation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import load_only

from services.api.policies.safetensors_header import file_parameters
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.contracts.job import JobSpec
from services.contracts.jobfolder import JobFolder
from services.contracts.rest.jobs import Range
from services.contracts.states import JobState

MOST_JOBS, MOST_BATCHES = 20, 200
"""Newest ones that are looked at."""
_ALIKE = 2.0
"""Policies whose numbers of parameters differ by less than this factor."""
_BATCH = ("wait_s", "train_s", "publish_s")
_APART = ("warmstart", "evaluation")
"""Phases of a job that are not its batches."""


@dataclass(frozen=True)
class Measured:
    """A batch of an earlier job."""

    step_s: float
    """Wall time for each environment step."""
    length: float
    """Steps of an episode."""


@dataclass(frozen=True)
class EarlierJob:
    """The rates of an earlier job."""

    spec: JobSpec
    parameters: int
    batches: Sequence[Measured]
    apart_s: float
    """Warm start and evaluations."""


async def earlier_jobs(database: Database, data_dir: Path, environment: str) -> list[EarlierJob]:
    """The newest jobs in this environment that have succeeded and left figures; of all projects: only rates leave."""
    columns = load_only(JobRow.id, JobRow.spec, JobRow.summary)
    query = (
        select(JobRow)
        .where(JobRow.environment_id == environment, JobRow.state == JobState.SUCCEEDED.value)
        .where(JobRow.kind == "training")
        .options(columns)
        .order_by(JobRow.id.desc())
        .limit(MOST_JOBS)
    )
    async with database.read() as session:
        rows = [(row.id, row.spec, row.summary) for row in (await session.scalars(query)).all()]
    return [job for one in rows if (job := _measured(JobFolder.of(data_dir, one[0]), *one[1:])) is not None]


def time_range(
    spec: JobSpec, parameters: int, episodes: int, earlier: Sequence[EarlierJob]
) -> tuple[float, Range] | None:
    """Seconds of the whole job, and between which; None: no earlier job was like it.

    Args:
        episodes: of all training batches.
    """
    alike = [job for job in earlier if job.batches and _is_alike(job, spec, parameters)]
    if not alike:
        return None
    steps_s = sorted(one.step_s for job in alike for one in job.batches)
    lengths = sorted(min(one.length, spec.environment.max_turns) for job in alike for one in job.batches)
    apart = sorted(job.apart_s for job in alike)
    low = _share(steps_s, 0.1) * _share(lengths, 0.1) * episodes + apart[0]
    value = median(steps_s) * median(lengths) * episodes + median(apart)
    high = _share(steps_s, 0.9) * spec.environment.max_turns * episodes + apart[-1]
    jobs = f"{len(alike)} earlier job{'s' * (len(alike) > 1)}"
    basis = f"{len(steps_s)} batches of {jobs} like it here, their 10th to 90th percentile"
    return value, Range(low=low, high=max(high, value), basis=basis)


def _is_alike(job: EarlierJob, spec: JobSpec, parameters: int) -> bool:
    same = job.spec.inference.engine == spec.inference.engine
    return same and parameters < _ALIKE * job.parameters and job.parameters < _ALIKE * max(parameters, 1)


def _measured(folder: JobFolder, document: dict[str, Any], summary: dict[str, Any] | None) -> EarlierJob | None:
    try:
        spec = JobSpec.model_validate(document)
        parameters = sum(file_parameters(file) for file in folder.base.glob("*.safetensors"))
        batches = list(_batches(folder.metrics))
    except (ValidationError, OSError, ValueError, KeyError, TypeError):  # other version, or half deleted
        return None
    phases = (summary or {}).get("phases_s") or {}
    apart_s = sum(float(phases.get(name, 0.0)) for name in _APART)
    return EarlierJob(spec, parameters, batches, apart_s) if parameters else None


def _batches(metrics: Path) -> Iterator[Measured]:
    for line in metrics.read_text().splitlines()[-MOST_BATCHES:]:
        row = json.loads(line)
        if row["env_steps"] > 0 and row["episodes"] > 0:
            yield Measured(sum(row[name] for name in _BATCH) / row["env_steps"], row["env_steps"] / row["episodes"])


def _share(ordered: Sequence[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]
