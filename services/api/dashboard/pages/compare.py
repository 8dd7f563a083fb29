"""Curves of several jobs over each other."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from services.api.dashboard import curves
from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Container, Parts
from services.api.http.routes.parameters import TEXT
from services.api.jobs import queries as jobs
from services.api.jobs.job_view import job_view
from services.api.jobs.queries import JobFilter
from services.api.rest.caller import Asking
from services.api.sql.tables import JobRow
from services.api.sync import feed
from services.presentation.panels import PANELS

router = APIRouter(route_class=PageRoute, include_in_schema=False)

MOST_JOBS = 6
"""As many lines as can be told apart."""
CANDIDATES = 100


@router.get("/compare")
async def compare(
    request: Request,
    parts: Parts,
    caller: Asking,
    job: Annotated[list[Annotated[str, Field(pattern=TEXT)]] | None, Query(max_length=MOST_JOBS)] = None,
) -> Response:
    """Choose jobs; see them on the same axes."""
    rows = [await jobs.find(parts.database, caller, job_id) for job_id in dict.fromkeys(job or [])]
    runs = await asyncio.gather(*(_run(parts, row) for row in rows))
    candidates = await jobs.page(parts.database, caller, JobFilter(kind="training"), limit=CANDIDATES, cursor=None)
    panels = [panel for panel in PANELS if panel.key != "sizes"]
    return await page(
        request,
        "compare.html",
        chosen=[job_view(row) for row in rows],
        runs=runs,
        candidates=[job_view(row) for row in candidates],
        panels=panels,
        most=MOST_JOBS,
        document={"panels": curves.panel_documents(panels), "runs": runs},
    )


async def _run(parts: Container, row: JobRow) -> dict[str, object]:
    metrics = await feed.metrics(parts.database, row.id)
    evaluations = await feed.evaluations(parts.database, row.id)
    return {
        "name": row.name or row.id,
        "rows": curves.points(metrics),
        "held_out": curves.held_out(evaluations),
        "after": next((one for one in reversed(evaluations) if one.get("label") == "after"), None),
        "env_steps": sum(steps for one in metrics if isinstance(steps := one.get("env_steps"), int | float)),
    }
