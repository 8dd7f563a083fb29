"""The form that submits a job: a spec in YAML, checked field by field before anything runs."""

from __future__ import annotations

import secrets
from typing import Annotated

import yaml
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from services.api.dashboard.forms import Form
from services.api.dashboard.rendering import PageRoute, page
from services.api.dashboard.spec_text import DEFAULT_SPEC, FieldProblem, as_text, field_problems, yaml_problem
from services.api.http.app_parts import Container, Parts
from services.api.http.routes.parameters import TEXT
from services.api.jobs import queries as jobs
from services.api.jobs.admission import Call
from services.api.jobs.derived_specs import fork_spec
from services.api.jobs.submissions import body_sha
from services.api.rest.caller import Asking
from services.api.rest.problems import Problem
from services.contracts.job import SpecError, parse_spec
from services.contracts.rest.catalogue import EnvironmentView
from services.contracts.rest.jobs import DryRun, ForkRequest

router = APIRouter(prefix="/jobs", route_class=PageRoute, include_in_schema=False)


@router.get("/new")
async def form(
    request: Request,
    parts: Parts,
    caller: Asking,
    copy: Annotated[str, Query(pattern=TEXT)] = "",
    checkpoint: str = "",
) -> Response:
    """The editor with the default spec, with that of the job `copy`, or with its `checkpoint` to begin from."""
    text = DEFAULT_SPEC
    if copy:
        row = await jobs.find(parts.database, caller, copy)
        text = as_text(row.spec)
        if checkpoint:
            text = as_text(fork_spec(row.spec, row.id, checkpoint, ForkRequest()).model_dump(mode="json"))
    return await _editor(request, parts, text)


@router.post("/new")
async def submit(request: Request, parts: Parts, caller: Asking, fields: Form) -> Response:
    """Check the spec, or check and submit it; what is wrong is said beside the text that was sent."""
    text = fields.get("spec", "").replace("\r\n", "\n")
    try:
        document = yaml.safe_load(text)
        spec = parse_spec(document)
        if fields.get("intent") != "submit":
            return await _editor(request, parts, text, checked=await parts.admission.dry_run(caller, spec))
        call = Call(caller, fields.get("key") or None, body_sha("submit", spec.model_dump(mode="json")))
        answer = await parts.admission.submit(call, spec)
    except yaml.YAMLError as error:
        return await _editor(request, parts, text, problems=[yaml_problem(error)])
    except SpecError as error:
        return await _editor(request, parts, text, problems=field_problems(text, error.problems))
    except Problem as problem:
        if problem.status != 422:
            raise
        return await _editor(request, parts, text, problems=field_problems(text, problem.errors))
    return RedirectResponse(f"/jobs/{answer.job_id}", 303)


async def _editor(
    request: Request,
    parts: Container,
    text: str,
    *,
    problems: list[FieldProblem] | None = None,
    checked: DryRun | None = None,
) -> Response:
    return await page(
        request,
        "submit.html",
        status=422 if problems else 200,
        text=text,
        problems=problems or [],
        checked=checked,
        resolved=as_text(checked.spec) if checked else None,
        environments=await _environments(parts),
        key=secrets.token_hex(16),  # a form that is sent twice submits one job
    )


async def _environments(parts: Container) -> list[EnvironmentView]:
    try:
        return await parts.environments.list()
    except Problem:  # the form can be filled without the list; a check will say that the service is away
        return []
