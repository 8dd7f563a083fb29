"""A stored job as REST shows it."""

from __future__ import annotations

from collections.abc import Sequence

from services.api.sql.tables import JobRow
from services.contracts.rest.jobs import JobDetail, JobView


def job_view(row: JobRow) -> JobView:
    """The brief view of a job."""
    return JobView.model_validate(_fields(row))


def job_detail(
    row: JobRow, warnings: Sequence[str] = (), *, waits_for: str | None = None, jobs_before: int | None = None
) -> JobDetail:
    """The full view of a job, what its submission is warned of, why it waits and behind how many others."""
    more = {"spec": row.spec, "warnings": list(warnings), "waits_for": waits_for, "jobs_before": jobs_before}
    return JobDetail.model_validate({**_fields(row), **more})


def _fields(row: JobRow) -> dict[str, object]:
    other_names = {"environment": row.environment_id, "wish": row.command}
    columns = (name for name in JobView.model_fields if name not in other_names)
    return {**other_names, **{name: getattr(row, name) for name in columns}}
