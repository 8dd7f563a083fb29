"""Curves of several jobs over each other, and in what their specs differ."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from services.api.dashboard import comparison, curves
from services.api.dashboard.comparison import Seeds, Told
from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Container, Parts
from services.api.http.routes.parameters import TEXT
from services.api.jobs import queries as jobs
from services.api.jobs.job_view import job_view
from services.api.jobs.queries import JobFilter
from services.api.rest.caller import Asking
from services.api.sql.tables import JobRow
from services.api.sync import feed
from services.presentation.panels import members_in

router = APIRouter(route_class=PageRoute, include_in_schema=False)

MOST_JOBS = 24
"""Seeds of a few settings; more lines cannot be told apart."""
CANDIDATES = 100
Batch = Annotated[int, Query(ge=0, le=1 << 31)]


async def _chosen(
    parts: Parts,
    caller: Asking,
    job: Annotated[list[Annotated[str, Field(pattern=TEXT)]] | None, Query(max_length=MOST_JOBS)] = None,
) -> list[JobRow]:
    return [await jobs.find(parts.database, caller, job_id) for job_id in dict.fromkeys(job or [])]


Chosen = Annotated[list[JobRow], Depends(_chosen)]


@router.get("/compare")
async def compare(request: Request, parts: Parts, caller: Asking, rows: Chosen, seeds: Seeds = "mean") -> Response:
    """Choose jobs; see them on the same axes. Jobs that differ in their seed only are one line, unless not wanted."""
    groups = comparison.groups_of(rows, seeds)
    told = await _told(parts, rows)
    candidates = await jobs.page(parts.database, caller, JobFilter(kind="training"), limit=CANDIDATES, cursor=None)
    names = {name for one in told.values() for row in one.metrics for name in row}
    panels = curves.comparison_panels(members_in(names))
    runs = [comparison.run_document(group, [told[row.id] for row in group]) for group in groups]
    return await page(
        request,
        "compare.html",
        chosen=[(job_view(row), n, told[row.id]) for n, group in enumerate(groups) for row in group],
        names=[comparison.line_name(group) for group in groups],
        differences=comparison.differences(groups),
        seeds=seeds,
        groupable=len(comparison.groups_of(rows, "mean")) < len(rows),
        candidates=[job_view(row) for row in candidates],
        panels=panels,
        panels_measured=comparison.panels_measured(told.values()),
        most=MOST_JOBS,
        document=comparison.document(panels, runs, [row.id for row in rows], seeds),
    )


@router.get("/compare/curves")
async def part_of_curves(
    parts: Parts, rows: Chosen, seeds: Seeds = "mean", low: Batch = 0, high: Batch = 1 << 31
) -> Response:
    """The rows of the batches from `low` to `high`, a list for each line of the charts."""
    told = await _told(parts, rows)
    groups = comparison.groups_of(rows, seeds)
    runs = [comparison.run_document(group, [told[row.id] for row in group]) for group in groups]
    return JSONResponse({"runs": [curves.thinned(run["rows"], low, high) for run in runs]})


async def _told(parts: Container, rows: Sequence[JobRow]) -> dict[str, Told]:
    async def told(job_id: str) -> Told:
        metrics = await feed.metrics(parts.database, job_id)
        return Told(metrics, await feed.evaluations(parts.database, job_id))

    found = await asyncio.gather(*(told(row.id) for row in rows))
    return {row.id: one for row, one in zip(rows, found, strict=True)}
