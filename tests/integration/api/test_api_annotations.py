"""Names, tags, notes and the archive over REST."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from tests.integration.api.api_process import ApiProcess
from tests.integration.api.submitting import spec, until


def submitted(http: httpx.Client, **sections: Any) -> str:
    return str(http.post("/v1/jobs", json=spec(**sections)).raise_for_status().json()["id"])


def ended(api: ApiProcess, http: httpx.Client, **sections: Any) -> str:
    job = submitted(http, **sections)
    until(http, job, "QUEUED")
    api.say(job, "state", state="FAILED", error="out of memory")
    until(http, job, "FAILED")
    return job


def listed(http: httpx.Client, **wanted: Any) -> list[str]:
    page = http.get("/v1/jobs", params={"limit": 200, **wanted}).raise_for_status().json()
    return [job["id"] for job in page["jobs"]]


def settled(job: dict[str, Any]) -> dict[str, Any]:
    """The job without its place in the queue, which other tests' jobs change."""
    assert {"waits_for", "jobs_before"} <= job.keys()
    return {key: value for key, value in job.items() if key not in ("waits_for", "jobs_before")}


def test_what_is_given_changes_and_nothing_else(http: httpx.Client) -> None:
    job = submitted(http, name="first")
    before = settled(until(http, job, "QUEUED"))
    assert (before["tags"], before["notes"], before["archived"]) == ([], None, False)
    changes = {"tags": ["baseline", "seed:0", "baseline"], "notes": "compare\nwith 2"}
    changed = settled(http.patch(f"/v1/jobs/{job}", json=changes).raise_for_status().json())
    assert changed == {**before, "tags": ["baseline", "seed:0"], "notes": "compare\nwith 2"}
    assert settled(http.patch(f"/v1/jobs/{job}", json={}).json()) == changed
    named = settled(http.patch(f"/v1/jobs/{job}", json={"name": "second"}).json())
    assert named == {**changed, "name": "second", "spec": {**changed["spec"], "name": "second"}}
    cleared = {"name": None, "tags": [], "notes": None}
    assert settled(http.patch(f"/v1/jobs/{job}", json=cleared).json()) == {
        **before, "name": None, "spec": {**before["spec"], "name": None}
    }  # fmt: skip


def test_a_tag_is_found_as_a_whole(http: httpx.Client) -> None:
    mark = uuid.uuid4().hex[:8]
    first, second = submitted(http), submitted(http)
    http.patch(f"/v1/jobs/{first}", json={"tags": [mark, f"{mark}_a"]}).raise_for_status()
    http.patch(f"/v1/jobs/{second}", json={"tags": [f"{mark}xa", f"{mark}-b"]}).raise_for_status()
    assert listed(http, tag=mark) == [first]
    assert listed(http, tag=f"{mark}_a") == [first], "an underscore is no wildcard"
    assert listed(http, tag=f"{mark}-b") == [second]
    assert listed(http, tag=mark[:-1]) == []


def test_an_archived_job_is_in_no_list_that_does_not_ask_for_it(api: ApiProcess, http: httpx.Client) -> None:
    job = ended(api, http, name="old")
    assert http.patch(f"/v1/jobs/{job}", json={"archived": True}).raise_for_status().json()["archived"] is True
    assert job not in listed(http)
    assert job not in listed(http, name="old")
    assert job in listed(http, archived="yes")
    assert job in listed(http, archived="any")
    assert http.get(f"/v1/jobs/{job}").status_code == 200
    http.patch(f"/v1/jobs/{job}", json={"archived": False}).raise_for_status()
    assert job in listed(http)
    assert job not in listed(http, archived="yes")


def test_a_job_that_has_not_ended_is_not_archived(http: httpx.Client) -> None:
    job = submitted(http)
    answer = http.patch(f"/v1/jobs/{job}", json={"archived": True, "tags": ["late"]})
    assert (answer.status_code, "want a job that has ended" in answer.json()["detail"]) == (409, True)
    assert http.get(f"/v1/jobs/{job}").json()["tags"] == [], "all of it or nothing"


def test_a_retry_has_the_name_that_its_job_has_now(api: ApiProcess, http: httpx.Client) -> None:
    job = ended(api, http, name="before")
    http.patch(f"/v1/jobs/{job}", json={"name": "after"}).raise_for_status()
    assert http.post(f"/v1/jobs/{job}:retry").raise_for_status().json()["name"] == "after"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tags": ["Two words"]}, "tags.0"),
        ({"tags": [f"t{number}" for number in range(17)]}, "tags"),
        ({"tags": None}, "tags"),
        ({"notes": "x" * 4001}, "notes"),
        ({"notes": "a\0b"}, "notes"),
        ({"name": "No Name"}, "name"),
        ({"archived": None}, "archived"),
        ({"state": "SUCCEEDED"}, "state"),
    ],
)
def test_a_change_that_cannot_be_is_refused_by_its_field(
    http: httpx.Client, changes: dict[str, Any], field: str
) -> None:
    answer = http.patch("/v1/jobs/j1", json=changes)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
