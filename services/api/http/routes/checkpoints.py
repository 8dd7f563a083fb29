"""A job's checkpoints: list, download, delete."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Response
from fastapi.responses import FileResponse, StreamingResponse

from services.api.artifacts import storage as artifacts
from services.api.http.app_parts import Parts
from services.api.http.routes.collections import Wanted
from services.api.http.routes.parameters import CheckpointName, FoundJob
from services.api.rest.problems import responses
from services.contracts.rest.checkpoints import CheckpointPage, CheckpointView
from services.contracts.states import TERMINAL

router = APIRouter(prefix="/v1/jobs/{job_id}/checkpoints", tags=["checkpoints"])

FileName = Annotated[
    str, Path(max_length=128, description="Name of one of the checkpoint's files.", examples=["model.safetensors"])
]
_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_TAR = {"content": {"application/x-tar": _BYTES["content"]["application/octet-stream"], **_BYTES["content"]}}
"""The second type tells generators of clients, which know no tar, that the answer is bytes."""


@router.get("", responses=responses(404))
async def list_checkpoints(job: FoundJob, parts: Parts, wanted: Wanted) -> CheckpointPage | list[CheckpointView]:
    """Complete checkpoints in Hugging Face format; `final` is the job's result."""
    folder = artifacts.job_folder(parts.settings.data_dir, job.id)
    return wanted.of(CheckpointPage, await asyncio.to_thread(artifacts.checkpoints, folder))


@router.get("/{name}/files/{file}", response_class=FileResponse, responses={**responses(404), 200: {**_BYTES}})
async def download_file(job: FoundJob, name: CheckpointName, file: FileName, parts: Parts) -> FileResponse:
    """One file of a checkpoint, streamed; ranges are served."""
    folder = artifacts.job_folder(parts.settings.data_dir, job.id)
    path = await asyncio.to_thread(artifacts.checkpoint_file, folder, name, file)
    return FileResponse(path, media_type="application/octet-stream", filename=file)


@router.get("/{name}/export", response_class=StreamingResponse, responses={**responses(404), 200: {**_TAR}})
async def export_checkpoint(job: FoundJob, name: CheckpointName, parts: Parts) -> StreamingResponse:
    """The checkpoint as a tar of its Hugging Face folder: config, tokenizer and weights."""
    folder = artifacts.job_folder(parts.settings.data_dir, job.id)
    files = await asyncio.to_thread(artifacts.checkpoint_files, folder, name)
    top = f"{job.name or job.id}-{name}"
    length, chunks = await asyncio.to_thread(artifacts.tar_stream, files, top)
    headers = {"Content-Disposition": f'attachment; filename="{top}.tar"', "Content-Length": str(length)}
    return StreamingResponse(chunks, media_type="application/x-tar", headers=headers)


@router.delete("/{name}", status_code=204, responses=responses(404, 409))
async def delete_checkpoint(job: FoundJob, name: CheckpointName, parts: Parts) -> Response:
    """Delete a checkpoint. 409 for the one that a job which has not ended would go on from."""
    folder = artifacts.job_folder(parts.settings.data_dir, job.id)
    await asyncio.to_thread(artifacts.delete_checkpoint, folder, name, ended=job.state in TERMINAL)
    return Response(status_code=204)
