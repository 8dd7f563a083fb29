"""The FastAPI application: routes, middleware, and the translation of every error into a problem."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from structlog.stdlib import BoundLogger

from services.api.dashboard.error_pages import ErrorPages
from services.api.dashboard.mounting import mount_dashboard
from services.api.http import login
from services.api.http.openapi import allowed_methods, document, operation_id
from services.api.http.routes import (
    administration,
    catalogue,
    checkpoints,
    dead_letters,
    evaluations,
    feed,
    insight,
    jobs,
    rollouts,
    sessions,
)
from services.api.http.routes.jobs import SUBMIT_PATH
from services.api.http.routes.parameters import only_known_query
from services.api.http.unexpected_errors import Defects
from services.api.rest.problems import Problem, answer, bad_spec
from services.api.security.guard import Guard
from services.api.security.headers import SecurityHeaders
from services.api.security.trail import AuditTrail
from services.api.settings import Settings
from services.contracts.job import SpecError, parse_spec
from services.contracts.plain_errors import in_words

ROUTERS = (jobs, feed, rollouts, insight, sessions, checkpoints, evaluations, catalogue, dead_letters, administration)


def build_app(settings: Settings, log: BoundLogger) -> FastAPI:
    """The application. Whoever serves it puts its parts into `state.container` first; its document needs none."""
    app = FastAPI(
        title="GiGPO platform",
        version="1",
        summary="Train LLM agents: submit jobs, watch them learn, take the checkpoint away.",
        generate_unique_id_function=operation_id,
        max_body_size=settings.max_body_bytes,
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
    )
    for module in ROUTERS:
        app.include_router(module.router, dependencies=[Depends(only_known_query)])
    app.include_router(login.router)
    mount_dashboard(app)
    setattr(app, "openapi", partial(document, app))  # noqa: B010 - FastAPI's own way; an assignment mypy refuses
    _translate_errors(app, settings.max_body_bytes)
    app.add_middleware(Guard, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(Defects, log=log)
    app.add_middleware(ErrorPages)
    app.add_middleware(AuditTrail)
    app.add_middleware(SecurityHeaders)  # added last, it stands outermost
    return app


def _translate_errors(app: FastAPI, max_body_bytes: int) -> None:
    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return answer(error)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = str(error.detail or HTTPStatus(error.status_code).phrase)
        if error.status_code == 404 and detail == HTTPStatus.NOT_FOUND.phrase:
            detail = f"nothing is at {request.url.path[:200]}; /openapi.json lists what is"
        if error.status_code == 405:  # Starlette names the methods of the first route that matches
            allowed = ", ".join(allowed_methods(app, request.url.path))
            error.headers = {"Allow": allowed}
            detail = f"{request.url.path[:200]}: want {allowed or 'another method'}, got {request.method}"
        if error.status_code == 413:  # the body had no Content-Length and was read up to the limit
            detail = f"want a body of at most {max_body_bytes} bytes, got more"
        return answer(Problem(error.status_code, detail, headers=dict(error.headers or {})))

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(_validation_problem(request, error))

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, validation)


def _validation_problem(request: Request, error: RequestValidationError) -> Problem:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return bad_spec([("", f"want JSON, got at character {first['loc'][-1]}: {first['ctx']['error']}")])
    if isinstance(error.body, bytes) and any(one["loc"] == ("body",) for one in error.errors()):
        got = request.headers.get("content-type", "none")
        return bad_spec([("", f"want JSON, named by Content-Type: application/json, got {got[:64]!r}")])
    of_body = all(one["loc"][0] == "body" for one in error.errors())
    if of_body and request.url.path == SUBMIT_PATH:
        try:
            parse_spec(error.body)  # says it in the same sentences as on the command line
        except SpecError as spec_error:
            return bad_spec(spec_error.problems)
    return bad_spec([(".".join(map(str, one["loc"][1:])), _sentence(one)) for one in error.errors()])


def _sentence(error: Mapping[str, object]) -> str:
    """One problem as FastAPI reports it, in one sentence."""
    if error["type"] == "extra_forbidden":
        return "unknown key"
    return in_words(error)
