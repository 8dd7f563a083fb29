"""Renders templates to HTML, and problems to pages instead of JSON."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from redis.exceptions import RedisError
from starlette.types import Scope

from services.api.dashboard.formats import FILTERS
from services.api.http.app_parts import Container
from services.api.rest.problems import Problem
from services.contracts.algorithm import STEP_ESTIMATORS, estimator_summaries
from services.contracts.plain_errors import in_words

STATIC = Path(__file__).parent / "static"
REDIS_PATIENCE_S = 0.5
"""A page does not wait longer to learn that Redis is away."""


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


_templates = Environment(
    loader=PackageLoader("services.api.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(FILTERS)
ASSETS = f"/assets/{_fingerprint()}"
"""A new version of the files gets a new address, so they may be cached for good."""
_templates.globals.update(
    assets=ASSETS, now=time.time, step_estimators=STEP_ESTIMATORS, estimator_summaries=estimator_summaries()
)


def fragment(template: str, name: str, *values: object) -> str:
    """The output of one macro of a template for `values`."""
    macro = getattr(_templates.get_template(template).module, name)
    return str(macro(*values)).strip()


async def page(request: Request, template: str, /, *, status: int = 200, **values: object) -> HTMLResponse:
    """A whole page. `redis_down` tells the template to say that running jobs are not being followed."""
    parts: Container = request.app.state.container
    html = _templates.get_template(template).render(
        path=request.url.path,
        caller=request.state.caller,
        with_login=parts.security.keys_wanted,
        redis_down=await _redis_is_down(parts),
        **values,
    )
    return HTMLResponse(html, status, headers={"Cache-Control": "no-store"})


async def _redis_is_down(parts: Container) -> bool:
    try:
        await asyncio.wait_for(parts.redis.ping(), REDIS_PATIENCE_S)
    except (RedisError, OSError, TimeoutError):
        return True
    return False


def error_html(scope: Scope, problem: Mapping[str, object]) -> str:
    """The page of a problem, also for an unknown caller; it needs no service that may be away."""
    known = scope.get("state", {}).get("caller")
    return _templates.get_template("error.html").render(
        path=scope["path"], caller=known, with_login=False, redis_down=False, problem=problem, title=problem["title"]
    )


class PageRoute(APIRoute):
    """Answers a problem with a page that says what to do."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_explain(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                sentences = [f"{'.'.join(map(str, one['loc'][1:]))}: {in_words(one)}" for one in error.errors()]
                problem = Problem(422, "; ".join(sentences))
            except Problem as raised:
                problem = raised
            title = HTTPStatus(problem.status).phrase
            return await page(request, "error.html", status=problem.status, problem=problem, title=title)

        return handle_or_explain
