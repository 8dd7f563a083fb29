"""Evaluations as jobs of their own, on a pinned policy."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from services.api.http.app_parts import Parts
from services.api.http.routes.jobs import created
from services.api.http.routes.parameters import TEXT, Cursor, FoundJob, IdempotencyKey, PageLimit
from services.api.jobs import queries as jobs
from services.api.jobs.admission import Call
from services.api.jobs.evaluations import evaluation_view, first_view
from services.api.jobs.submissions import body_sha
from services.api.rest.caller import Asking
from services.api.rest.problems import not_found, responses
from services.contracts.rest.evaluations import EvaluationPage, EvaluationRequest, EvaluationView

router = APIRouter(prefix="/v1/evaluations", tags=["evaluations"])


@router.post(
    "",
    status_code=201,
    response_model=EvaluationView,
    responses={**responses(404, 409, 422, 503), **created(EvaluationView)},
)
async def evaluate_policy(
    wanted: EvaluationRequest, parts: Parts, caller: Asking, idempotency_key: IdempotencyKey = None
) -> Response:
    """Measure a pinned policy of a job on a panel of tasks, as a job of its own."""
    call = Call(caller, idempotency_key, body_sha("evaluation", wanted.model_dump(mode="json")))
    answer = await parts.admission.evaluate(call, wanted)
    return Response(
        first_view(answer.body).model_dump_json(),
        201 if answer.new else 200,
        headers={"Location": f"/v1/evaluations/{answer.job_id}"},
        media_type="application/json",
    )


@router.get("", responses=responses(422))
async def list_evaluations(
    parts: Parts,
    caller: Asking,
    job_id: Annotated[
        str | None, Query(max_length=32, pattern=TEXT, description="Only evaluations of this job's policies.")
    ] = None,
    limit: PageLimit = 50,
    cursor: Cursor = None,
) -> EvaluationPage:
    """Evaluations, newest first."""
    wanted = jobs.JobFilter(kind="evaluation", parent_job=job_id)
    rows = await jobs.page(parts.database, caller, wanted, limit=limit + 1, cursor=cursor, with_spec=True)
    following = rows[limit - 1].id if len(rows) > limit else None
    return EvaluationPage(items=[evaluation_view(row) for row in rows[:limit]], next_cursor=following)


@router.get("/{job_id}", responses=responses(404))
async def show_evaluation(job: FoundJob) -> EvaluationView:
    """One evaluation and, once it is measured, its result."""
    if job.kind != "evaluation":
        raise not_found("evaluation", job.id)
    return evaluation_view(job)
