"""Every collection has one shape and one way to page; what the last version answered is still to be had."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.contracts.rest.positions import cursor_at
from tests.integration.api.api_process import ApiProcess
from tests.integration.api.job_leftovers import leave_results
from tests.integration.api.submitting import spec, until

OLD_FIELDS = {
    "/v1/jobs": "jobs",
    "/v1/evaluations": "evaluations",
    "/v1/jobs/{job}/rollouts": "rollouts",
    "/v1/jobs/{job}/anchors": "anchors",
    "/v1/audit": "entries",
}
BARE_LISTS = {
    "/v1/environments": 4,
    "/v1/keys": 2,
    "/v1/projects": 2,
    "/v1/jobs/{job}/checkpoints": 2,
    "/v1/jobs/{job}/metrics": 2,
    "/v1/jobs/{job}/evaluations": 2,
}
"""Collections of the API, and how many entries each has at least."""


@pytest.fixture(scope="module")
def ended(api: ApiProcess) -> Iterator[str]:
    """A job with results, metrics and evaluations, beside two keys and two projects."""
    with httpx.Client(base_url=api.url, timeout=30) as http:
        job = str(http.post("/v1/jobs", json=spec()).raise_for_status().json()["id"])
        until(http, job, "QUEUED")
        leave_results(api.data_dir, job)
        for name in ("one", "two"):
            http.post("/v1/keys", json={"name": name, "scopes": ["read"]}).raise_for_status()
            http.post("/v1/projects", json={"id": name}).raise_for_status()
        http.post("/v1/evaluations", json={"job_id": job, "checkpoint": "final"}).raise_for_status()
        figures = {"episodes": 2, "success": 0.5, "standard_error": 0.1, "return_mean": 0.0, "length_mean": 1.0}
        for batch, label in enumerate(("before", "after")):
            api.say(job, "metrics", batch=batch, success=0.5)
            api.say(job, "evaluation", label=label, version=batch, invalid_share=0.0, split="test", **figures)
        api.say(job, "state", state="FAILED", error="out of memory")
        until(http, job, "FAILED")
        yield job


def got(http: httpx.Client, path: str, job: str, **query: Any) -> Any:
    return http.get(path.format(job=job), params=query).raise_for_status().json()


@pytest.mark.parametrize("path", [*OLD_FIELDS, *BARE_LISTS])
def test_a_collection_is_a_page_of_items(http: httpx.Client, ended: str, path: str) -> None:
    page = got(http, path, ended)
    assert page["items"]
    assert page["next_cursor"] is None or isinstance(page["next_cursor"], str)
    assert all(isinstance(one, dict) for one in page["items"])


@pytest.mark.parametrize("path", [path for path in (*OLD_FIELDS, *BARE_LISTS) if "evaluations" not in path[:15]])
def test_a_collection_read_in_pages_of_one_is_the_whole(http: httpx.Client, ended: str, path: str) -> None:
    query, paged = {}, []
    whole = got(http, path, ended, limit=200)["items"]
    while True:
        page = got(http, path, ended, limit=1, **query)
        assert len(page["items"]) == 1
        paged += page["items"]
        if page["next_cursor"] is None:
            break
        query = {"cursor": page["next_cursor"]}
    assert paged == whole


@pytest.mark.parametrize(("path", "field"), OLD_FIELDS.items())
def test_the_entries_stand_under_their_old_name_too(http: httpx.Client, ended: str, path: str, field: str) -> None:
    page = got(http, path, ended)
    assert page[field] == page["items"] != []


@pytest.mark.parametrize(("path", "least"), BARE_LISTS.items())
def test_a_bare_list_is_still_to_be_had(http: httpx.Client, ended: str, path: str, least: int) -> None:
    entries = got(http, path, ended, shape="list")
    assert isinstance(entries, list)
    assert len(entries) >= least
    assert entries == got(http, path, ended, limit=1000)["items"]


def test_an_offset_still_finds_its_page(http: httpx.Client, ended: str) -> None:
    path = "/v1/jobs/{job}/anchors"
    first = got(http, path, ended, limit=1, min_visits=1)
    assert (first["next_offset"], first["next_cursor"]) == (1, cursor_at(1))
    by_offset, by_cursor = (
        got(http, path, ended, limit=1, min_visits=1, **query)
        for query in ({"offset": first["next_offset"]}, {"cursor": first["next_cursor"]})
    )
    assert by_offset == by_cursor
    assert by_offset["items"] != first["items"]


def test_old_ways_are_marked_in_the_document(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    for path, field in OLD_FIELDS.items():
        answer = document["paths"][path.replace("{job}", "{job_id}")]["get"]["responses"]["200"]
        name = answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        schema = document["components"]["schemas"][name]
        assert schema["properties"][field]["deprecated"] is True
        assert field not in schema["required"]
        assert {"items", "next_cursor"} <= set(schema["required"])
    old = {
        (path, one["name"])
        for path, calls in document["paths"].items()
        for one in calls.get("get", {}).get("parameters", [])
        if one.get("deprecated")
    }
    lists = {(path.replace("{job}", "{job_id}"), "shape") for path in BARE_LISTS}
    assert old == lists | {(f"/v1/jobs/{{job_id}}/{name}", "offset") for name in ("rollouts", "anchors")}


@pytest.mark.parametrize("state", ["failed", "FAILED", "Failed"])
def test_a_state_may_be_written_as_people_write_it(http: httpx.Client, ended: str, state: str) -> None:
    assert ended in {one["id"] for one in got(http, "/v1/jobs", ended, state=state, limit=200)["items"]}


def test_a_state_that_is_none_is_refused(http: httpx.Client) -> None:
    answer = http.get("/v1/jobs", params={"state": "done"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "state")


def test_events_can_be_read_as_pages_until_the_job_has_ended(http: httpx.Client, ended: str) -> None:
    with http.stream("GET", f"/v1/jobs/{ended}/events") as stream:
        ids = [line[4:] for line in stream.iter_lines() if line.startswith("id: ")]
    told, query = [], {"limit": 2}
    while True:
        page = got(http, "/v1/jobs/{job}/log", ended, **query)
        told += page["items"]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert [one["id"] for one in told] == ids
    assert told[-1]["data"] == {"state": "FAILED", "error": "out of memory"}


def test_who_waits_for_an_event_hears_of_the_next_one(api: ApiProcess, http: httpx.Client) -> None:
    job = http.post("/v1/jobs", json=spec()).raise_for_status().json()["id"]
    until(http, job, "QUEUED")
    cursor = got(http, "/v1/jobs/{job}/log", job)["next_cursor"]
    nothing = got(http, "/v1/jobs/{job}/log", job, cursor=cursor)
    assert nothing == {"items": [], "next_cursor": cursor}
    api.say(job, "metrics", batch=0, success=0.25)
    deadline = time.monotonic() + 60
    page = nothing
    while not page["items"] and time.monotonic() < deadline:
        page = got(http, "/v1/jobs/{job}/log", job, cursor=cursor, wait_s=15)
    assert [(one["kind"], one["data"]["success"]) for one in page["items"]] == [("metrics", 0.25)]
