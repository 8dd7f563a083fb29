"""Results of a job: evaluations and checkpoints."""

from __future__ import annotations

import asyncio
import secrets

from fastapi import APIRouter, Request, Response

from services.api.artifacts import storage as artifacts
from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Parts
from services.api.http.routes.parameters import FoundJob
from services.api.jobs import queries as jobs
from services.api.jobs.evaluations import evaluation_view
from services.api.jobs.job_view import job_view
from services.api.jobs.queries import JobFilter
from services.api.rest.caller import Asking
from services.api.sync import feed
from services.presentation.evaluations import EVALUATION_LABELS

router = APIRouter(prefix="/jobs/{job_id}", route_class=PageRoute, include_in_schema=False)

MOST_EVALUATIONS = 50


@router.get("/results")
async def results(job: FoundJob, request: Request, parts: Parts, caller: Asking) -> Response:
    """Evaluations with their errors, checkpoints with their files."""
    folder = artifacts.job_folder(parts.settings.data_dir, job.id)
    asked = JobFilter(kind="evaluation", parent_job=job.id)
    rows = await jobs.page(parts.database, caller, asked, limit=MOST_EVALUATIONS, cursor=None, with_spec=True)
    return await page(
        request,
        "results.html",
        job=job_view(job),
        tab="results",
        labels=EVALUATION_LABELS,
        measured=await feed.evaluations(parts.database, job.id),
        asked=[evaluation_view(row) for row in rows],
        checkpoints=(await asyncio.to_thread(artifacts.checkpoints, folder))[::-1],
        key=secrets.token_hex(16),
    )
