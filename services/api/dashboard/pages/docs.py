"""Documentation pages: every metric, and the REST API with a form to try it."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from services.api.dashboard.api_pages import chapters
from services.api.dashboard.rendering import PageRoute, page
from services.api.http.app_parts import Parts
from services.contracts.metrics import METRICS

router = APIRouter(route_class=PageRoute, include_in_schema=False)


@router.get("/docs")
async def docs(request: Request, parts: Parts) -> Response:
    """Made from the same sources as the API's document and the charts."""
    return await page(
        request,
        "docs.html",
        chapters=chapters(request.app.openapi()),
        metrics=METRICS,
        site=parts.settings.docs_url,
    )


@router.get("/redoc")
async def redoc() -> RedirectResponse:
    """The address at which FastAPI's users look."""
    return RedirectResponse("/docs", 307)
