"""Rollouts with the advantages of every step, and the anchor states that several episodes visited."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from services.api.artifacts.anchors import anchor_page
from services.api.artifacts.rollouts import RolloutFilter
from services.api.artifacts.storage import job_folder
from services.api.http.app_parts import Parts
from services.api.http.routes.collections import Offset, OffsetCursor
from services.api.http.routes.parameters import FoundJob
from services.api.rest.problems import responses
from services.contracts.rest.positions import offset_of
from services.contracts.rest.rollouts import AnchorPage, RolloutDetail, RolloutPage, RolloutPurpose

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["rollouts"])

GroupId = Annotated[str, Path(max_length=64, description="Id of the group.", examples=["t15a5f058356777db36f"])]
PageLength = Annotated[int, Query(ge=1, le=500, description="Largest number of entries on a page.")]
Batch = Annotated[int | None, Query(ge=0, le=1 << 31, description="Number of the batch; null: all.")]


@router.get("/rollouts", responses=responses(404, 422))
async def list_rollouts(
    job: FoundJob,
    parts: Parts,
    purpose: Annotated[RolloutPurpose, Query(description="Purpose of the groups.")] = "training",
    batch: Batch = None,
    label: Annotated[str | None, Query(max_length=32, description="Label of the evaluation, e.g. `after`.")] = None,
    won: Annotated[
        Literal["all", "some", "none"] | None, Query(description="How many of the group's episodes succeeded.")
    ] = None,
    min_length: Annotated[int | None, Query(ge=0, description="Steps of the group's longest episode.")] = None,
    max_length: Annotated[int | None, Query(ge=0, description="Steps of the group's shortest episode.")] = None,
    limit: PageLength = 100,
    cursor: OffsetCursor = None,
    offset: Offset = 0,
) -> RolloutPage:
    """Groups in order of batch and cursor."""
    wanted = RolloutFilter(purpose, batch, label, won, min_length, max_length)
    folder = job_folder(parts.settings.data_dir, job.id)
    offset = offset_of(cursor) if cursor else offset
    return await asyncio.to_thread(parts.rollouts.page, folder, wanted, offset=offset, limit=limit)


@router.get("/rollouts/{group_id}", responses=responses(404))
async def show_rollout(job: FoundJob, group_id: GroupId, parts: Parts) -> RolloutDetail:
    """One group: every step's prompt, response, reward, return, advantages, and the other visits to its state."""
    folder = job_folder(parts.settings.data_dir, job.id)
    return await asyncio.to_thread(parts.rollouts.detail, folder, group_id)


@router.get("/anchors", responses=responses(404, 422))
async def list_anchors(
    job: FoundJob,
    parts: Parts,
    batch: Annotated[int | None, Query(ge=0, le=1 << 31, description="Number of the batch; null: the newest.")] = None,
    group_id: Annotated[str | None, Query(max_length=64, description="Only states of this group.")] = None,
    min_visits: Annotated[int, Query(ge=1, description="Only states that at least this many steps reached.")] = 2,
    limit: PageLength = 100,
    cursor: OffsetCursor = None,
    offset: Offset = 0,
) -> AnchorPage:
    """The states of a batch where episodes met: the actions taken there, their returns and advantages."""
    folder, offset = job_folder(parts.settings.data_dir, job.id), offset_of(cursor) if cursor else offset
    return await asyncio.to_thread(
        anchor_page, parts.rollouts, folder, batch, group_id, min_visits=min_visits, offset=offset, limit=limit
    )
