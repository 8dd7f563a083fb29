"""The catalogue: environments and algorithms that jobs can name, and the health of the installation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response

from services.api.http.app_parts import Parts
from services.api.http.health import health
from services.api.http.routes.collections import Wanted
from services.api.http.system import system_view
from services.api.rest.caller import Asking
from services.api.rest.problems import not_found, responses
from services.contracts.job import Algorithm, JobSpec
from services.contracts.rest.catalogue import Algorithms, EnvironmentPage, EnvironmentView, Health, SystemView

router = APIRouter(tags=["catalogue"])


@router.get("/v1/environments", responses=responses(503))
async def list_environments(parts: Parts, wanted: Wanted) -> EnvironmentPage | list[EnvironmentView]:
    """Environments, with the JSON schemas of their kwargs."""
    return wanted.of(EnvironmentPage, await parts.environments.list())


@router.get("/v1/environments/{environment_id:path}", responses=responses(404, 503))
async def show_environment(
    environment_id: Annotated[str, Path(max_length=128, description="Id of the environment.", examples=["grid"])],
    parts: Parts,
) -> EnvironmentView:
    """One environment."""
    found = next((view for view in await parts.environments.list() if view.info.id == environment_id), None)
    if found is None:
        raise not_found("environment", environment_id)
    return found


@router.get("/v1/algorithms")
async def list_algorithms() -> Algorithms:
    """JSON schemas of the algorithm section and of the whole job spec."""
    return Algorithms(algorithm=Algorithm.model_json_schema(), job=JobSpec.model_json_schema())


@router.get("/v1/system")
async def show_system(parts: Parts, caller: Asking) -> SystemView:
    """The installation at a glance: services, queues, the ledger's balance, and how many jobs are in which state."""
    return await system_view(parts, caller)


@router.get("/healthz", response_model=Health, responses={503: {"model": Health, "description": "Something is amiss."}})
async def show_health(parts: Parts, request: Request) -> Response:
    """200 when the database, Redis, the environment service and every other service answer; else 503 and, for callers
    that are known, what is wrong."""
    found = await health(parts.database, parts.redis, parts.environments, parts.settings.expected_services)
    shown = found if request.state.caller is not None else Health(status=found.status)
    return JSONResponse(shown.model_dump(), 200 if found.status == "ok" else 503)
