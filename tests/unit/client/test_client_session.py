"""When a stack that was started for one job may be stopped again."""

from __future__ import annotations

import httpx
import pytest

from gigpo.client import GigpoClient
from gigpo.client.session import has_work
from tests.unit.client.both_clients import job


def installation(*states: str) -> httpx.MockTransport:
    """An API with jobs in these states, newest first, that knows the filter and the limit of a list."""

    def handler(request: httpx.Request) -> httpx.Response:
        wanted, limit = request.url.params.get("state"), int(request.url.params["limit"])
        found = [job(id=f"j{i}", state=state) for i, state in enumerate(states) if wanted in (None, state)]
        return httpx.Response(200, json={"jobs": found[:limit], "next_cursor": None})

    return httpx.MockTransport(handler)


@pytest.mark.parametrize(
    ("oldest", "expected"),
    [("PENDING", True), ("QUEUED", True), ("RUNNING", True), ("PAUSED", False), ("FAILED", False)],
)
def test_a_job_at_work_is_found_behind_however_many_that_have_ended(oldest: str, expected: bool) -> None:
    with GigpoClient("http://api", transport=installation(*["SUCCEEDED"] * 300, oldest)) as client:
        assert has_work(client) == expected
