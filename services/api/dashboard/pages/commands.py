"""Commands on a job's page: each is a form that is stored and answered with a redirect."""

from __future__ import annotations

import asyncio
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from services.api.artifacts import storage as artifacts
from services.api.dashboard.forms import Form
from services.api.dashboard.rendering import PageRoute
from services.api.http.app_parts import Parts
from services.api.http.routes.parameters import CheckpointName, FoundJob, JobId
from services.api.jobs import queries as jobs
from services.api.jobs.admission import Call
from services.api.jobs.submissions import body_sha
from services.api.rest.caller import Asking
from services.contracts.rest.evaluations import EvaluationRequest
from services.contracts.states import TERMINAL, Command

router = APIRouter(prefix="/jobs/{job_id}", route_class=PageRoute, include_in_schema=False)

COMMANDS = {"pause": Command.PAUSE, "resume": Command.RUN, "cancel": Command.CANCEL}


@router.post("/retry")
async def retry(job: FoundJob, parts: Parts, caller: Asking, fields: Form) -> RedirectResponse:
    """A new job that goes on where this one ended."""
    call = Call(caller, fields.get("key") or None, body_sha("retry", job.id))
    answer = await parts.admission.retry(call, job)
    return RedirectResponse(f"/jobs/{answer.job_id}", 303)


@router.post("/checkpoints/{name}/evaluate")
async def evaluate(job: FoundJob, name: CheckpointName, parts: Parts, caller: Asking, fields: Form) -> RedirectResponse:
    """A job that measures this checkpoint."""
    wanted = EvaluationRequest(job_id=job.id, checkpoint=name)
    call = Call(caller, fields.get("key") or None, body_sha("evaluation", wanted.model_dump(mode="json")))
    answer = await parts.admission.evaluate(call, wanted)
    return RedirectResponse(f"/jobs/{answer.job_id}/results", 303)


@router.post("/checkpoints/{name}/delete")
async def delete_checkpoint(job: FoundJob, name: CheckpointName, parts: Parts) -> RedirectResponse:
    """Remove a checkpoint that nothing goes on from."""
    folder = artifacts.job_folder(parts.settings.data_dir, job.id)
    await asyncio.to_thread(artifacts.delete_checkpoint, folder, name, ended=job.state in TERMINAL)
    return RedirectResponse(f"/jobs/{job.id}/results", 303)


@router.post("/{verb}")
async def command(
    job_id: JobId, verb: Literal["pause", "resume", "cancel"], parts: Parts, caller: Asking
) -> RedirectResponse:
    """Note the command."""
    await jobs.command(parts.database, caller, job_id, COMMANDS[verb])
    parts.reconciler.wake()
    return RedirectResponse(f"/jobs/{job_id}", 303)
