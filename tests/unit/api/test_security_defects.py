"""A defect in front of the handlers is answered as one behind them; a use that cannot be noted is no defect."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI, HTTPException
from sqlalchemy.exc import OperationalError

from services.api.app import _translate_errors, build_app
from services.api.security.authenticator import Authenticator
from services.api.settings import Settings

LOG = structlog.stdlib.get_logger("test")


async def test_a_defect_of_the_guard_is_a_problem_with_security_headers() -> None:
    settings = Settings.model_validate({"redis_url": "redis://x", "data_dir": "/tmp/x", "env_address": "127.0.0.1:1"})
    app = build_app(settings, LOG)
    app.state.container = SimpleNamespace(security=None)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/v1/jobs")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "said"),
    [("/v1/v1/jobs", "nothing is at /v1/v1/jobs; /openapi.json lists what is"), ("/gone", "no job 'gone'")],
)
async def test_a_wrong_path_is_told(path: str, said: str) -> None:
    app = FastAPI()

    @app.get("/gone")
    async def gone() -> None:
        raise HTTPException(404, "no job 'gone'")

    _translate_errors(app, 1)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["detail"]) == (404, said)


class Full:
    def write(self) -> Any:
        raise OperationalError("UPDATE", {}, OSError("disk full"))


async def test_a_use_that_cannot_be_noted_refuses_nobody() -> None:
    database: Any = Full()
    await Authenticator(database, None, LOG)._note_use("0123")
