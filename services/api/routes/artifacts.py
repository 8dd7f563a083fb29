"""What a job leaves behind: rollouts and checkpoints."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from services.api import artifacts, jobs
from services.api.container import Container, Parts
from services.api.views import CheckpointView, RolloutDetail, RolloutPage

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["artifacts"])


async def _folder(job_id: str, parts: Container) -> Path:
    await jobs.find(parts.database, job_id)
    return artifacts.job_folder(parts.settings.data_dir, job_id)


@router.get("/rollouts")
async def rollouts(
    job_id: str,
    parts: Parts,
    batch: Annotated[int | None, Query(ge=0)] = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> RolloutPage:
    """Trained groups, of one batch or all, in order of batch and cursor."""
    folder = await _folder(job_id, parts)
    found = await asyncio.to_thread(parts.rollouts.page, folder, batch=batch, offset=offset, limit=limit + 1)
    numbers = await asyncio.to_thread(parts.rollouts.batches, folder)
    following = offset + limit if len(found) > limit else None
    return RolloutPage(rollouts=found[:limit], batches=numbers, next_offset=following)


@router.get("/rollouts/{group_id}")
async def rollout(job_id: str, group_id: str, parts: Parts) -> RolloutDetail:
    """One group: every step's prompt, response, reward, return, advantages, and the other visits to its state."""
    return await asyncio.to_thread(parts.rollouts.detail, await _folder(job_id, parts), group_id)


@router.get("/checkpoints")
async def checkpoints(job_id: str, parts: Parts) -> list[CheckpointView]:
    """Complete checkpoints in Hugging Face format; `final` is the job's result."""
    return await asyncio.to_thread(artifacts.checkpoints, await _folder(job_id, parts))


@router.get("/checkpoints/{name}/files/{file}")
async def checkpoint_file(job_id: str, name: str, file: str, parts: Parts) -> FileResponse:
    """One file of a checkpoint, streamed."""
    path = await asyncio.to_thread(artifacts.checkpoint_file, await _folder(job_id, parts), name, file)
    return FileResponse(path, media_type="application/octet-stream", filename=file)
