"""What jobs can name, and whether the installation is well."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from services.api.container import Parts
from services.api.health import health
from services.api.views import EnvironmentView, Health
from services.contracts.job import Algorithm, JobSpec

router = APIRouter(tags=["catalogue"])


@router.get("/v1/environments")
async def environments(parts: Parts) -> list[EnvironmentView]:
    """Every environment, with the JSON schema of its kwargs."""
    return await parts.environments.list()


@router.get("/v1/algorithms")
async def algorithms() -> dict[str, Any]:
    """JSON schemas of the algorithm section and of the whole job spec."""
    return {"algorithm": Algorithm.model_json_schema(), "job": JobSpec.model_json_schema()}


@router.get("/healthz", response_model=Health, responses={503: {"model": Health}})
async def healthz(parts: Parts) -> Response:
    """200 when the database, Redis, the environment service and every other service answer; else 503 and what is
    wrong."""
    found = await health(parts.database, parts.redis, parts.environments, parts.settings.expected_services)
    return JSONResponse(found.model_dump(), 200 if found.status == "ok" else 503)
