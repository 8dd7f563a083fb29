"""The API explorer has every operation of the document, as the document describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog

from services.api.app import build_app
from services.api.dashboard.api_pages import Operation, chapters
from services.api.settings import Settings


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    unused = Settings(redis_url="redis://unused", data_dir=Path("unused"), env_address="unused:1")
    return build_app(unused, structlog.get_logger()).openapi()


def test_every_operation_is_in_one_chapter(document: dict[str, Any]) -> None:
    shown = [(one.method, one.path) for chapter in chapters(document) for one in chapter.operations]
    described = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    assert sorted(shown) == sorted(described)
    assert len(set(shown)) == len(shown)


def test_an_operation_says_what_it_takes_and_answers(document: dict[str, Any]) -> None:
    found: dict[str, Operation] = {one.id: one for chapter in chapters(document) for one in chapter.operations}
    listing = found["list_jobs"]
    assert (listing.method, listing.path, listing.only_looks) == ("GET", "/v1/jobs", True)
    limit = next(one for one in listing.tried if one.name == "limit")
    assert (limit.place, limit.required, limit.values) == ("query", False, "integer, default 50")
    state = next(one for one in listing.tried if one.name == "state")
    assert "SUCCEEDED" in state.values or state.values == "JobState"
    assert next(one for one in listing.answers if one.status == "200").example.startswith("{")
    assert found["submit_job"].body.startswith("{")
    assert not found["submit_job"].only_looks
    assert found["show_job"].tried[0].required
