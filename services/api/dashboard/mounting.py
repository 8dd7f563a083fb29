"""Puts the dashboard into the API's application."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from services.api.dashboard.pages import (
    commands,
    compare,
    dead_letters,
    docs,
    insight,
    job,
    jobs,
    log,
    notes,
    results,
    rollouts,
    submit,
    system,
)
from services.api.dashboard.rendering import ASSETS, STATIC

PAGES = (jobs, submit, notes, job, commands, log, rollouts, insight, results, compare, docs, dead_letters, system)
"""The order matters: `/jobs/new` is no job's page, and `notes` names its commands before `commands` takes any."""


class _Assets(StaticFiles):
    """Files whose address changes with their content: a browser asks once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def mount_dashboard(app: FastAPI) -> None:
    """Add the pages at `/`, and their files; nothing of it is in the API's description."""
    for module in PAGES:
        app.include_router(module.router)
    files = _Assets(directory=STATIC, packages=[("chartkick", "django/static/chartkick")])
    app.mount(ASSETS, GZipMiddleware(files, minimum_size=1_000, compresslevel=6), name="assets")
