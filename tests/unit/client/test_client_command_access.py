"""`gigpo keys`, `projects`, `env`, `doctor`, `version`: what each asks for, what it shows, and how it ends."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from gigpo.client.doctor.finding import bad, ok
from gigpo.client.stack import RunningStack
from tests.unit.client.both_clients import problem
from tests.unit.client.fake_api import FakeApi, Gigpo, job, key, project


def test_a_new_key_alone_is_on_stdout(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers["POST /v1/keys"] = key(key="gk_secret")
    made = gigpo("keys", "create", "nightly", "--scopes", "read, submit", "--project", "robots", "--expires-in", "2d")
    assert (made.code, made.out) == (0, "gk_secret\n")
    assert made.err == "key k1 of project default, scopes read, submit:\n"
    sent = fake_api.body()
    assert sent.pop("expires_unix_s") == pytest.approx(time.time() + 2 * 86_400, abs=3_600)
    assert sent == {"name": "nightly", "scopes": ["read", "submit"], "project": "robots"}
    gigpo("keys", "create", "nightly")
    assert fake_api.body() == {"name": "nightly", "scopes": ["read", "submit"]}
    assert gigpo("keys", "create", "nightly", "--json").document["key"] == "gk_secret"
    wrong = gigpo("keys", "create", "nightly", "--expires-in", "soon")
    assert (wrong.code, wrong.err) == (2, "gigpo: --expires-in: want a duration such as 12h or 30d, got 'soon'\n")


def test_keys_are_listed_with_their_state(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers["GET /v1/keys"] = [
        key(name="valid [a]"),
        key(id="k2", revoked_unix_s=5.0),
        key(id="k3", expires_unix_s=5.0, last_used_unix_s=4.0),
        key(id="k4", expires_unix_s=4e9),
    ]
    rows = gigpo("keys", "list").rows[1:]
    assert rows[0] == ["k1", "valid", "[a]", "gk_ab", "default", "read", "submit", "valid", "never"]
    assert rows[1][-2:] == ["revoked", "never"]
    assert rows[2][6] == "expired"
    assert rows[2][-1].endswith(":04")
    assert rows[3][6:8] == ["until", time.strftime("%F", time.localtime(4e9))]
    assert [one["id"] for one in gigpo("keys", "list", "--json").document] == ["k1", "k2", "k3", "k4"]


def test_a_key_is_revoked_after_a_yes(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers["DELETE /v1/keys/k1"] = httpx.Response(204)
    assert gigpo("keys", "revoke", "k1", "--yes").out == "revoked k1\n"
    assert gigpo("keys", "revoke", "k1", "--yes", "--json").document == {"revoked": "k1"}
    none = gigpo("keys", "revoke", "k9", "--yes")
    assert (none.code, none.err) == (2, "gigpo: no /v1/keys/k9\n")


def test_projects_are_shown_with_what_they_use_and_may_use(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers |= {"GET /v1/projects": [project()], "GET /v1/projects/robots": project()}
    row = ["robots", "2", "of", "4", "1,234", "5,678", "of", "1,000,000,000"]
    assert gigpo("projects", "list").rows[1] == row
    assert gigpo("projects", "show", "robots").rows[1] == row
    assert gigpo("projects", "show", "robots", "--json").document["usage"]["total_steps"] == 1234


def test_quotas_are_sent_as_they_were_named(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers |= {"POST /v1/projects": project(), "PATCH /v1/projects/robots": project()}
    assert gigpo("projects", "create", "robots", "--max-jobs", "4", "--max-bytes", "0").code == 0
    assert fake_api.body() == {"id": "robots", "quotas": {"max_concurrent_jobs": 4, "max_storage_bytes": 0}}
    assert gigpo("projects", "create", "robots").code == 0
    assert fake_api.body() == {"id": "robots", "quotas": {}}
    assert gigpo("projects", "update", "robots", "--max-jobs", "none", "--max-steps", "7").code == 0
    assert fake_api.body() == {"max_concurrent_jobs": None, "max_total_steps": 7}
    for arguments, words in (
        ((), "want a quota to change: --max-jobs, --max-steps or --max-bytes"),
        (("--max-steps", "many"), "--max-steps: want a whole number >= 0 or none, got 'many'"),
    ):
        wrong = gigpo("projects", "update", "robots", *arguments)
        assert (wrong.code, wrong.err) == (2, f"gigpo: {words}\n")


def environment(**fields: Any) -> dict[str, Any]:
    schema = {
        "properties": {
            "size": {"type": "integer", "minimum": 1, "default": 5, "description": "Of a side."},
            "colour": {"type": "string"},
        },
        "required": ["colour"],
    }
    info = {
        "id": "grid",
        "description": "Fetch [and] carry.",
        "kwargs_schema": schema,
        "deterministic": True,
        "gives_anchors": False,
        "cost_class": "light",
        "splits": ["train", "test"],
        "default_max_turns": 20,
        "prompt_template": "plain",
        **fields,
    }
    return {"info": info, "unavailable_reason": ""}


def test_environments_are_listed_with_their_keys(fake_api: FakeApi, gigpo: Gigpo) -> None:
    absent = {**environment(id="far", cost_class=None), "unavailable_reason": "needs [far]", "newer": 1}
    fake_api.answers["GET /v1/environments"] = [environment(new_ability=True), absent]
    shown = gigpo("env", "list")
    grid, far = (" ".join(row) for row in shown.rows[1:3])
    assert grid == "grid Fetch [and] carry. size, colour train, test deterministic light"
    assert far == "far needs [far]. Fetch [and] carry. size, colour train, test deterministic"
    assert gigpo("env", "list", "--json").document == fake_api.answers["GET /v1/environments"]
    fake_api.answers["GET /v1/environments"] = [{"id": "grid"}]
    other = gigpo("env", "list")
    said = "gigpo: the list of environments can't be read: info: want a value, none is given\n"
    assert (other.code, other.err) == (3, said)


def test_an_environment_is_explained_key_by_key(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers["GET /v1/environments"] = [environment()]
    shown = gigpo("env", "show", "grid")
    lines = [" ".join(row) for row in shown.rows]
    assert lines[0] == "grid: Fetch [and] carry."
    assert "anchors none: gigpo needs another environment" in lines
    assert "turns 20 unless max_turns says otherwise" in lines
    assert lines[-2:] == ["colour string (required)", "size integer from 1 5 Of a side."]
    assert gigpo("env", "show", "grid", "--json").document == environment()
    none = gigpo("env", "show", "maze")
    assert (none.code, none.err) == (2, "gigpo: ID: want grid, got 'maze'\n")


def test_the_doctor_says_what_to_do_and_ends_with_1_where_something_is_bad(
    fake_api: FakeApi, gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_api.has(job())
    fake_api.answers["GET /healthz"] = {"status": "ok", "checks": {"redis": "ok"}}
    monkeypatch.setattr("gigpo.client.doctor.installation.packages", lambda: ok("packages", "all [here]"))
    well = gigpo("doctor")
    assert well.code == 0, well.out
    assert "ok      packages   all [here]" in well.out.splitlines()
    assert "ok      api        http://api is healthy: redis" in well.out.splitlines()
    monkeypatch.setattr("gigpo.client.doctor.installation.packages", lambda: bad("packages", "one is old", "renew it"))
    ill = gigpo("doctor")
    assert ill.code == 1
    assert ["bad", "packages", "one", "is", "old"] in ill.rows
    assert f"{'':19}-> renew it" in ill.out.splitlines()
    states = {one["name"]: one["state"] for one in gigpo("doctor", "--json").document}
    assert (states["packages"], states["python"], states["api"]) == ("bad", "ok", "ok")


def test_the_doctor_asks_whether_the_api_knows_the_key(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers |= {"GET /healthz": {"status": "ok", "checks": {}}, "GET /v1/jobs": problem(401, "want a key")}
    findings = {one["name"]: one for one in gigpo("doctor", "--json").document}
    assert findings["key"]["what"] == "the API requires a key"
    fake_api.answers["GET /healthz"] = httpx.Response(200, text="<html>")
    findings = {one["name"]: one for one in gigpo("doctor", "--json").document}
    assert (findings["api"]["state"], "does not come from this API" in findings["api"]["what"]) == ("bad", True)


def test_the_version_is_told_in_words_and_in_json(gigpo: Gigpo) -> None:
    document = gigpo("version", "--json").document
    assert set(document) == {"gigpo", "python", "platform", "services"}
    assert gigpo("version").out.startswith(f"gigpo {document['gigpo']} (whole platform), Python ")


def test_up_and_down_speak_of_the_stack_that_is_there(gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch) -> None:
    none = gigpo("down")
    assert (none.code, none.err) == (3, "gigpo: no stack is running in runs\n")
    stack, stopped = RunningStack(7, "http://127.0.0.1:8400"), [True, False]
    monkeypatch.setattr("gigpo.client.commands.stack.running_stack", lambda _: stack)
    monkeypatch.setattr("gigpo.client.commands.stack.stack_holder", lambda _: 7)
    monkeypatch.setattr("gigpo.client.commands.stack.stop_stack", lambda *_: stopped.pop(0))
    assert gigpo("up", "--detach").out == "a stack is up already: process 7, API http://127.0.0.1:8400\n"
    document = {"pid": 7, "api_url": "http://127.0.0.1:8400", "data_dir": "elsewhere/.platform"}
    assert gigpo("up", "-d", "--json", "--runs", "elsewhere").document == document
    assert gigpo("up", "-d", "--port", "8400").code == 0
    for detach in ((), ("-d",)):
        other = gigpo("up", *detach, "--port", "84")
        assert (other.code, other.err) == (
            2,
            "gigpo: --port: want 84, a stack is up on http://127.0.0.1:8400 already; `gigpo down` stops it\n",
        )
    down = gigpo("down", "--json")
    assert (down.document, down.err) == ({"pid": 7, "stopped": True}, "the stack is down\n")
    still = gigpo("down")
    assert (still.code, still.err) == (3, "gigpo: process 7 does not stop; its log is runs/.platform/logs/stack.log\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("jobs", "lits"), "lits is not a command; want one of archive, cancel, "),
        (("jobs", "list", "--limti", "3"), "--limti: unknown flag; did you mean --limit?"),
        (("jobs", "show"), "JOB: want a value, none is given; `gigpo jobs show --help` lists what there is"),
        (("jobs", "list", "--limit", "many"), "got 'many'; `gigpo jobs list --help` lists what there is"),
    ],
)
def test_a_wrong_call_is_one_sentence(gigpo: Gigpo, arguments: tuple[str, ...], words: str) -> None:
    done = gigpo(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("gigpo: ")
    assert words in done.err


def test_a_folder_that_cannot_be_used_is_named(gigpo: Gigpo, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = gigpo("up", "--runs", "file/runs")
    said = "gigpo: file/runs/.platform: no file can be written there: Not a directory (file)\n"
    assert (done.code, done.err) == (2, said)


def test_help_is_shown_where_nothing_is_asked(gigpo: Gigpo) -> None:
    for arguments in ((), ("jobs",)):
        shown = gigpo(*arguments)
        assert "Usage: gigpo" in shown.out + shown.err
        assert "gigpo: " not in shown.err
