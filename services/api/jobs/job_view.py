"""A stored job as REST shows it."""

from __future__ import annotations

from collections.abc import Sequence

from services.api.sql.tables import JobRow
from services.contracts.rest.jobs import JobDetail, JobView


def job_view(row: JobRow) -> JobView:
    """The brief view of a job."""
    return JobView.model_validate(_fields(row))


def job_detail(row: JobRow, warnings: Sequence[str] = ()) -> JobDetail:
    """The full view of a job, and what its submission is warned of."""
    return JobDetail.model_validate({**_fields(row), "spec": row.spec, "warnings": list(warnings)})


def _fields(row: JobRow) -> dict[str, object]:
    other_names = {"environment": row.environment_id, "wish": row.command}
    columns = (name for name in JobView.model_fields if name not in other_names)
    return {**other_names, **{name: getattr(row, name) for name in columns}}
