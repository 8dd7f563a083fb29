"""Evaluations: jobs of kind `evaluation`, seen as what they measure."""

from __future__ import annotations

import re

from services.api.sql.tables import JobRow
from services.contracts.references import referenced_checkpoint
from services.contracts.rest.evaluations import EvaluationView
from services.contracts.rest.jobs import JobDetail
from services.contracts.states import JobState
from services.contracts.summary import EvaluationResult

_OWN_LABEL, PINNED = "before", "pinned"
"""How a job labels the policy it begins with, and what that policy is here."""
_NUMBERED = re.compile(r"[bv](\d+)")


def evaluation_view(row: JobRow) -> EvaluationView:
    """The evaluation that this job makes."""
    source, checkpoint = referenced_checkpoint(row.spec["model"]["model"]) or ("", "")
    version = _version(row, checkpoint)
    results = _results(row, version)
    return EvaluationView(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        state=JobState(row.state),
        job_id=source,
        checkpoint=checkpoint,
        version=version,
        eval_episodes=row.spec["evaluation"]["eval_episodes"],
        eval_seed=row.spec["evaluation"]["eval_seed"],
        split=row.spec["environment"]["eval_split"],
        created_unix_s=row.created_unix_s,
        finished_unix_s=row.finished_unix_s,
        error=row.error,
        result=results.pop(PINNED, None),
        baselines=results,
    )


def first_view(body: str) -> EvaluationView:
    """The evaluation as it was when its job was answered with this body, a `JobDetail`."""
    columns = set(JobDetail.model_fields) - {"environment"}
    detail = JobDetail.model_validate_json(body).model_dump(mode="json", include=columns)
    return evaluation_view(JobRow(**detail, summary=None))


def _version(row: JobRow, checkpoint: str) -> int | None:
    known = row.origin["version"] if row.origin else None
    numbered = _NUMBERED.fullmatch(checkpoint)
    return known if known is not None else int(numbered[1]) if numbered else None


def _results(row: JobRow, version: int | None) -> dict[str, EvaluationResult]:
    """By label. The job itself counts its policy as its version 0; what it measured is the pinned one."""
    found: dict[str, EvaluationResult] = {}
    for stored in (row.summary or {}).get("evaluations", []):
        label = PINNED if stored["label"] == _OWN_LABEL else stored["label"]
        pinned = {"label": label, "version": stored["version"] if version is None else version}
        found[label] = EvaluationResult.model_validate({**stored, **pinned})
    return found
