"""What a job leaves behind: evaluations and checkpoints."""

from __future__ import annotations

import asyncio
import secrets

from fastapi import APIRouter, Request, Response

from services.api import artifacts, feed, jobs
from services.api.caller import Asking
from services.api.container import Parts
from services.api.dashboard.rendering import PageRoute, page
from services.api.evaluations import evaluation_view
from services.api.jobs import JobFilter
from services.api.routes.parameters import FoundJob
from services.api.views.jobs import job_view
from services.contracts.summary import EVALUATION_LABELS

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
