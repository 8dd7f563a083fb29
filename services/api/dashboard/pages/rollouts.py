"""Rollouts of a job: the list of groups, one group's episodes side by side, and its anchor graph."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from services.api.artifacts.anchors import states_of
from services.api.artifacts.rollouts import RolloutFilter
from services.api.artifacts.storage import job_folder
from services.api.dashboard.anchor_graph import anchor_graph
from services.api.dashboard.graph_layout import SHADES, drawing
from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Parts
from services.api.http.routes.parameters import FoundJob
from services.api.jobs.job_view import job_view
from services.contracts.rest.rollouts import RolloutPurpose

router = APIRouter(prefix="/jobs/{job_id}", route_class=PageRoute, include_in_schema=False)

PAGE = 50
SIBLINGS = 500
"""Most groups of a batch in the list to choose from."""
Count = Annotated[str, Query(pattern=r"^\d{0,9}$")]
"""A field of a form: empty means any."""


def _count(text: str) -> int | None:
    return int(text) if text else None


@router.get("/rollouts")
async def rollouts(
    job: FoundJob,
    request: Request,
    parts: Parts,
    batch: Count = "",
    won: Literal["", "all", "some", "none"] = "",
    min_length: Count = "",
    max_length: Count = "",
    purpose: RolloutPurpose = "training",
    offset: Annotated[int, Query(ge=0, le=1 << 31)] = 0,
) -> Response:
    """Groups, newest batch first; `offset` > 0 comes as rows alone, for a page that grows while it scrolls."""
    folder = job_folder(parts.settings.data_dir, job.id)
    wanted = RolloutFilter(
        purpose, _count(batch), won=won or None, min_length=_count(min_length), max_length=_count(max_length)
    )
    found = await asyncio.to_thread(parts.rollouts.page, folder, wanted, offset=offset, limit=PAGE, newest_first=True)
    following = request.url.include_query_params(offset=found.next_offset) if found.next_offset else None
    return await page(
        request,
        "rollout_rows.html" if offset else "rollouts.html",
        job=job_view(job),
        tab="rollouts",
        groups=found.rollouts,
        next_url=f"{following.path}?{following.query}" if following else None,
        batches=found.batches,
        wanted=wanted,
        filtered=wanted != RolloutFilter(),
    )


@router.get("/rollouts/{group_id}")
async def group(job: FoundJob, group_id: str, request: Request, parts: Parts) -> Response:
    """The episodes of a group side by side."""
    folder = job_folder(parts.settings.data_dir, job.id)
    detail = await asyncio.to_thread(parts.rollouts.detail, folder, group_id)
    steps = [step for episode in detail.played for step in episode.steps]
    return await page(
        request,
        "group.html",
        job=job_view(job),
        tab="rollouts",
        group=detail,
        scale=max((abs(a) for step in steps for a in (step.episode_advantage, step.step_advantage)), default=0) or 1,
    )


@router.get("/anchors")
async def anchors(job: FoundJob, request: Request, parts: Parts) -> Response:
    """The anchor view of a group that has something to tell, in the newest batch."""
    folder = job_folder(parts.settings.data_dir, job.id)
    newest = await asyncio.to_thread(
        parts.rollouts.page, folder, RolloutFilter(), offset=0, limit=PAGE, newest_first=True
    )
    if not newest.rollouts:
        return await page(request, "no_anchors.html", job=job_view(job), tab="anchors")
    chosen = max(newest.rollouts, key=lambda brief: (brief.batch, 0 < brief.won < brief.episodes, -brief.cursor))
    return RedirectResponse(f"/jobs/{job.id}/anchors/{chosen.group_id}", 303)


@router.get("/anchors/{group_id}")
async def group_anchors(
    job: FoundJob, group_id: str, request: Request, parts: Parts, colour: Literal["return", "spread"] = "return"
) -> Response:
    """The states in which the episodes of a group met, their actions there, and their returns."""
    folder = job_folder(parts.settings.data_dir, job.id)
    brief, played = await asyncio.to_thread(parts.rollouts.group, folder, group_id)
    wanted = RolloutFilter(brief.purpose, brief.batch, brief.label)
    siblings = await asyncio.to_thread(parts.rollouts.page, folder, wanted, offset=0, limit=SIBLINGS)
    graph = anchor_graph(states_of(played))
    return await page(
        request,
        "anchors.html",
        job=job_view(job),
        tab="anchors",
        group=brief,
        graph=graph,
        drawing=drawing(graph),
        shades=SHADES,
        colour=colour,
        siblings=siblings.rollouts,
        batches=siblings.batches,
    )
