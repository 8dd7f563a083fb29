"""What a job leaves behind: rollouts and checkpoints."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from services.api import artifacts, jobs
from services.api.container import Container, Parts
from services.api.views import CheckpointView

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["artifacts"])


async def _folder(job_id: str, parts: Container) -> Path:
    await jobs.find(parts.database, job_id)
    return artifacts.job_folder(parts.settings.data_dir, job_id)


@router.get("/checkpoints")
async def checkpoints(job_id: str, parts: Parts) -> list[CheckpointView]:
    """Complete checkpoints in Hugging Face format; `final` is the job's result."""
    return await asyncio.to_thread(artifacts.checkpoints, await _folder(job_id, parts))


@router.get("/checkpoints/{name}/files/{file}")
async def checkpoint_file(job_id: str, name: str, file: str, parts: Parts) -> FileResponse:
    """One file of a checkpoint, streamed."""
    path = await asyncio.to_thread(artifacts.checkpoint_file, await _folder(job_id, parts), name, file)
    return FileResponse(path, media_type="application/octet-stream", filename=file)
