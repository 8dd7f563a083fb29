"""The day that a job's chat template writes: that of its submission, unless its spec names one."""

from __future__ import annotations

from datetime import UTC, datetime

from services.contracts.job import JobSpec


def dated(spec: JobSpec) -> JobSpec:
    """The spec with today as the day of its chat template, unless it names one or can have no chat template."""
    environment = spec.environment
    if spec.model.scratch or not environment.use_chat_template or environment.chat_template_date is not None:
        return spec
    today = datetime.now(UTC).date()
    return spec.model_copy(update={"environment": environment.model_copy(update={"chat_template_date": today})})
