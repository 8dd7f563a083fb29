"""`gigpo jobs tag`, `note`, `rename`, `archive`, `unarchive`, `delete`: what is sent, what is said, what is refused."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest

from gigpo.client import GigpoClient
from gigpo.client.completion import complete_archived_job, complete_job
from tests.unit.client.both_clients import AT_ONCE, problem
from tests.unit.client.fake_api import FakeApi, Gigpo, job


def remains(**fields: Any) -> dict[str, Any]:
    """The data that a deletion would take away, as the API says it."""
    return {
        "job_id": "j1",
        "events": 1234,
        "folder": "jobs/j1",
        "files": ["base", "checkpoints"],
        "size_bytes": 2_500_000,
        "kept": [],
        **fields,
    }


@pytest.fixture
def ended(fake_api: FakeApi) -> FakeApi:
    """An API with an ended job `demo` that may be deleted."""
    fake_api.has(job(name="demo", state="SUCCEEDED"))
    fake_api.answers |= {"GET /v1/jobs/j1/remains": remains(), "DELETE /v1/jobs/j1": remains()}
    return fake_api


def deletions(api: FakeApi) -> int:
    return sum(one.method == "DELETE" for one in api.requests)


def test_tags_are_put_beside_those_that_are_there(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job(tags=["old", "seed:0"]))
    fake_api.answers["PATCH /v1/jobs/j1"] = lambda: job(tags=fake_api.body()["tags"])
    assert gigpo("jobs", "tag", "j1", "new", "old", "new").out == "j1: tags old seed:0 new\n"
    assert fake_api.body() == {"tags": ["old", "seed:0", "new"]}
    assert gigpo("jobs", "tag", "j1", "seed:0", "--remove").out == "j1: tags old\n"
    assert gigpo("jobs", "tag", "j1", "old", "seed:0", "--remove").out == "j1: no tags\n"
    assert fake_api.body() == {"tags": []}
    assert gigpo("jobs", "tag", "j1", "new", "--json").document["tags"] == ["old", "seed:0", "new"]


def test_only_tags_that_the_job_has_can_be_removed(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job(tags=["old", "seed:0"]))
    wrong = gigpo("jobs", "tag", "j1", "old", "sede:0", "--remove")
    assert (wrong.code, wrong.err) == (2, "gigpo: TAG: want tags that job j1 has (old, seed:0), got sede:0\n")
    fake_api.has(job())
    none = gigpo("jobs", "tag", "j1", "old", "--remove")
    assert (none.code, none.err) == (2, "gigpo: TAG: want tags that job j1 has (none), got old\n")
    assert [one.method for one in fake_api.requests] == ["GET", "GET"]


@pytest.mark.parametrize(
    ("typed", "body", "said"),
    [
        (("note", "j1", "too [b] high"), {"notes": "too [b] high"}, "note written"),
        (("note", "j1", ""), {"notes": ""}, "no note"),
        (("rename", "j1", "demo-2"), {"name": "demo-2"}, "name demo-2"),
        (("archive", "j1"), {"archived": True}, "archived"),
        (("unarchive", "j1"), {"archived": False}, "no longer archived"),
    ],
)
def test_one_thing_of_a_job_is_changed(
    fake_api: FakeApi, gigpo: Gigpo, typed: tuple[str, ...], body: dict[str, Any], said: str
) -> None:
    fake_api.has(job(state="SUCCEEDED", tags=["old"], notes="low", archived=True))
    fake_api.answers["PATCH /v1/jobs/j1"] = lambda: job(**fake_api.body())
    done = gigpo("jobs", *typed)
    assert (done.code, done.out, done.err) == (0, f"j1: {said}\n", "")
    assert fake_api.body() == body
    shown = gigpo("jobs", *typed, "--json")
    assert (shown.document["id"], shown.err) == ("j1", "")
    fake_api.answers["PATCH /v1/jobs/j1"] = problem(409, "want a job that has ended")
    refused = gigpo("jobs", *typed)
    assert (refused.code, refused.out, refused.err) == (2, "", "gigpo: want a job that has ended\n")


def test_notes_tags_and_the_archive_are_shown(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job(tags=["old", "seed:0"], notes="low", archived=True))
    fields = dict(line.split(maxsplit=1) for line in gigpo("jobs", "show", "j1").out.splitlines())
    assert (fields["tags"], fields["notes"], fields["archived"]) == ("old seed:0", "low", "True")
    fake_api.has(job())
    plain = gigpo("jobs", "show", "j1").out
    assert [word for word in ("tags", "notes", "archived") if word in plain] == []
    assert ["seed", "0"] in [line.split() for line in plain.splitlines()]


def test_the_list_is_asked_for_a_tag_and_for_archived_jobs(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job())
    assert gigpo("jobs", "list", "--tag", "seed:0", "--archived", "any").code == 0
    assert fake_api.query() == {"tag": "seed:0", "archived": "any", "limit": "20"}


class Names:
    """Jobs of one name, some of them archived, as the API finds them."""

    def __init__(self, api: FakeApi, **found: list[dict[str, Any]]) -> None:
        self.api, self.found = api, found
        api.answers["GET /v1/jobs"] = self
        for one in (one for jobs in found.values() for one in jobs):
            api.answers |= {f"GET /v1/jobs/{one['id']}": one, f"PATCH /v1/jobs/{one['id']}": one}

    def __call__(self) -> dict[str, Any]:
        return {"items": self.found.get(self.api.query().get("archived", "no"), []), "next_cursor": None}


def test_a_name_means_the_archived_job_only_where_no_other_bears_it(fake_api: FakeApi, gigpo: Gigpo) -> None:
    old = job(id="j1", name="demo", archived=True, state="SUCCEEDED")
    Names(fake_api, no=[job(id="j2", name="demo")], yes=[old])
    assert gigpo("jobs", "note", "demo", "x").out == "j2: no note\n"
    assert gigpo("jobs", "unarchive", "demo").out.startswith("j1: ")
    Names(fake_api, yes=[old])
    assert gigpo("jobs", "show", "demo", "--json").document["id"] == "j1"
    Names(fake_api, no=[job(id="j2", name="demo")])
    assert gigpo("jobs", "unarchive", "demo").out.startswith("j2: ")  # it says what the job is now, as for an id
    Names(fake_api)
    none = gigpo("jobs", "show", "demo")
    assert (none.code, none.err) == (2, "gigpo: no /v1/jobs/demo\n")


def test_a_deletion_says_first_what_would_go_and_takes_no_for_an_answer(
    ended: FakeApi, gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended.answers["GET /v1/jobs/j1/remains"] = remains(kept=["mine.txt", "more"])
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    refused = gigpo("jobs", "delete", "j1")
    assert refused.out.rstrip().splitlines() == [
        "would go: 1,234 events, and 2.5 MB in jobs/j1: base, checkpoints",
        "would stay in jobs/j1: mine.txt, more",
    ]
    assert "delete job demo (j1), SUCCEEDED, for good? [y/N]" in refused.err
    assert refused.err.endswith("gigpo: aborted, nothing was changed\n")
    assert (refused.code, deletions(ended)) == (1, 0)


def test_a_deletion_is_done_after_yes(ended: FakeApi, gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    done = gigpo("jobs", "delete", "j1")
    assert [line.strip() for line in done.out.splitlines()] == [
        "would go: 1,234 events, and 2.5 MB in jobs/j1: base, checkpoints",
        "deleted job demo (j1): 1,234 events, 2.5 MB",
    ]
    assert (done.code, deletions(ended)) == (0, 1)


def test_where_nobody_can_be_asked_nothing_is_deleted(
    ended: FakeApi, gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert (gigpo("jobs", "delete", "j1").code, deletions(ended)) == (1, 0)


def test_yes_asks_nothing(ended: FakeApi, gigpo: Gigpo) -> None:
    assert gigpo("jobs", "delete", "j1", "--yes").out == "deleted job demo (j1): 1,234 events, 2.5 MB\n"
    shown = gigpo("jobs", "delete", "j1", "-y", "--json")
    assert (shown.document, shown.err) == (remains(), "")


def test_a_deletion_whose_answer_was_lost_tells_what_was_there(ended: FakeApi, gigpo: Gigpo) -> None:
    ended.answers["DELETE /v1/jobs/j1"] = httpx.Response(204)
    assert gigpo("jobs", "delete", "j1", "--yes").out == "deleted job demo (j1): 1,234 events, 2.5 MB\n"


def test_a_job_that_runs_is_not_deleted_and_nobody_is_asked(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job())
    refused = gigpo("jobs", "delete", "j1", "--yes")
    assert (refused.code, refused.out, refused.err) == (
        2,
        "",
        "gigpo: cannot delete job j1: want a job that has ended, got state RUNNING; `gigpo jobs cancel j1` ends it\n",
    )
    assert [str(one.url.path) for one in fake_api.requests] == ["/v1/jobs/j1"]


def test_an_empty_job_without_a_name_is_called_by_its_id(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.has(job(state="CANCELLED"))
    none = remains(files=[], events=0, size_bytes=0)
    fake_api.answers |= {"GET /v1/jobs/j1/remains": none, "DELETE /v1/jobs/j1": problem(409, "a trainer holds it")}
    refused = gigpo("jobs", "delete", "j1", "--yes")
    assert (refused.code, refused.err) == (2, "gigpo: a trainer holds it\n")
    fake_api.answers["DELETE /v1/jobs/j1"] = none
    assert gigpo("jobs", "delete", "j1", "--yes").out == "deleted job j1: 0 events, 0.0 MB\n"


def test_a_shell_completes_archived_jobs_where_they_are_wanted(
    fake_api: FakeApi, gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def client(url: str, key: str | None, **_: Any) -> GigpoClient:
        return GigpoClient(url, key, transport=httpx.MockTransport(fake_api), retries=AT_ONCE)

    monkeypatch.setattr("gigpo.client.completion.GigpoClient", client)
    Names(fake_api, no=[job(id="j3"), job(id="j2", name="demo")], yes=[job(id="j1", name="demo-0"), job(id="j0")])
    assert (complete_job(""), complete_job("de")) == (["j3", "demo", "j2"], ["demo"])
    assert (complete_archived_job("j"), complete_archived_job("de")) == (["j1", "j0"], ["demo-0"])
