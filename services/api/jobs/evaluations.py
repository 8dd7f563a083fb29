"""Evaluations: views of the jobs of kind `evaluation`."""

from __future__ import annotations

import re

import msgspec
from pydantic import TypeAdapter

from services.api.sql.tables import JobRow
from services.contracts.references import referenced_checkpoint
from services.contracts.rest.evaluations import EvaluationView
from services.contracts.rest.jobs import JobDetail, Origin
from services.contracts.states import JobState
from services.contracts.summary import EvaluationResult

_OWN_LABEL, PINNED = "before", "pinned"
"""How a job labels the policy it begins with, and what that policy is here."""
_NUMBERED = re.compile(r"[bv](\d+)")
_RESULTS = TypeAdapter(list[EvaluationResult])


class _Model(msgspec.Struct):
    model: str


class _Evaluation(msgspec.Struct):
    eval_episodes: int
    eval_seed: int


class _Environment(msgspec.Struct):
    eval_split: str


class _Spec(msgspec.Struct):
    """The fields of a stored spec that an evaluation is described by; every version of the platform wrote them."""

    model: _Model
    evaluation: _Evaluation
    environment: _Environment


def evaluation_view(row: JobRow) -> EvaluationView:
    """The evaluation that this job makes."""
    spec = msgspec.convert(row.spec, _Spec)
    source, checkpoint = referenced_checkpoint(spec.model.model) or ("", "")
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
        eval_episodes=spec.evaluation.eval_episodes,
        eval_seed=spec.evaluation.eval_seed,
        split=spec.environment.eval_split,
        created_unix_s=row.created_unix_s,
        finished_unix_s=row.finished_unix_s,
        error=row.error,
        result=results.pop(PINNED, None),
        baselines=results,
    )


def first_view(body: str) -> EvaluationView:
    """The evaluation as it was when its job was answered with this body, a `JobDetail`."""
    columns = {name for name in JobDetail.model_fields if hasattr(JobRow, name)} - {"environment", "wish"}
    detail = JobDetail.model_validate_json(body).model_dump(mode="json", include=columns)
    return evaluation_view(JobRow(**detail, summary=None))


def _version(row: JobRow, checkpoint: str) -> int | None:
    known = Origin.model_validate(row.origin).version if row.origin else None
    numbered = _NUMBERED.fullmatch(checkpoint)
    return known if known is not None else int(numbered[1]) if numbered else None


def _results(row: JobRow, version: int | None) -> dict[str, EvaluationResult]:
    """Collect the job's results by label. The job itself counts its policy as its version 0; what it measured is the
    pinned one."""
    found: dict[str, EvaluationResult] = {}
    for stored in _RESULTS.validate_python((row.summary or {}).get("evaluations", [])):
        label = PINNED if stored.label == _OWN_LABEL else stored.label
        pinned = {"label": label, "version": stored.version if version is None else version}
        found[label] = stored.model_copy(update=pinned)
    return found
