"""Requests, repeats and the meaning of answers; the same on both clients."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gigpo import client
from gigpo.client.errors import BAD_INPUT, FAILED, NO_API
from gigpo.client.http.retries import Retries
from tests.unit.client.both_clients import KINDS, ask, job, problem, recorded_sleeps

pytestmark = pytest.mark.parametrize("kind", KINDS)


def test_a_submission_is_repeated_with_one_key_until_it_is_answered(kind: str) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if len(seen) == 1:
            raise httpx.ReadError("cut", request=request)
        return httpx.Response(503) if len(seen) == 2 else httpx.Response(201, json=job(id="j7"))

    assert ask(kind, handler, "submit", {"model": {"scratch": {}}}).id == "j7"
    assert len({request.headers["idempotency-key"] for request in seen}) == 1
    assert len(seen) == 3
    ask(kind, handler, "submit", {})
    assert seen[-1].headers["idempotency-key"] != seen[0].headers["idempotency-key"]


def test_what_never_answers_is_given_up_at_the_limit(kind: str) -> None:
    calls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(client.Unreachable, match="http://api does not answer: refused") as raised:
        ask(kind, handler, "job", "j1")
    assert len(calls) == 1 + Retries().limit
    assert raised.value.exit_code == NO_API


def test_a_key_is_made_again_only_when_the_request_was_never_received(kind: str) -> None:
    dates = dict.fromkeys(("expires_unix_s", "revoked_unix_s", "last_used_unix_s"))
    made = {"id": "k1", "name": "n", "prefix": "gk_", "scopes": ["read"], "project": "default", "created_unix_s": 1.0}
    made |= {"key": "gk_secret", **dates}
    failures: list[type[httpx.TransportError]] = [httpx.ConnectError, httpx.ReadError]
    calls: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request.content)
        if failures:
            raise failures.pop(0)("cut", request=request)
        return httpx.Response(201, json=made)

    with pytest.raises(client.Unreachable):
        ask(kind, handler, "create_key", "n", scopes=["read"])
    assert len(calls) == 2
    assert ask(kind, handler, "create_key", "n").key == "gk_secret"
    assert json.loads(calls[-1]) == {"name": "n", "scopes": ["read", "submit"]}


@pytest.mark.parametrize(
    ("status", "error", "exit_code"),
    [
        (401, client.Unauthorized, BAD_INPUT),
        (403, client.Forbidden, BAD_INPUT),
        (404, client.NotFound, BAD_INPUT),
        (409, client.Conflict, BAD_INPUT),
        (422, client.Invalid, BAD_INPUT),
        (418, client.ApiRefused, BAD_INPUT),
        (500, client.ServerFailed, NO_API),
    ],
)
def test_a_problem_is_an_error_of_its_own_class_and_not_repeated(
    kind: str, status: int, error: type[client.ApiRefused], exit_code: int
) -> None:
    calls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        return problem(status, "it is so")

    with pytest.raises(error, match="it is so") as raised:
        ask(kind, handler, "job", "j1")
    assert (raised.value.status, raised.value.errors) == (status, [("f", "m")])
    assert (raised.value.exit_code, len(calls)) == (exit_code, 1)


def test_an_answer_of_somebody_else_is_said_to_be_one(kind: str) -> None:
    with pytest.raises(client.BadAnswer, match="GET /v1/jobs/j1: the answer does not come from this API"):
        ask(kind, lambda _: httpx.Response(200, text="<html>"), "job", "j1")
    with pytest.raises(client.ServerFailed, match="HTTP 500 from http://api/v1/jobs/j1: <html>"):
        ask(kind, lambda _: httpx.Response(500, text="<html>"), "job", "j1")
    assert client.BadAnswer.exit_code != FAILED


def test_a_degraded_installation_is_an_answer(kind: str) -> None:
    degraded = {"status": "degraded", "checks": {"redis": "gone"}}
    assert ask(kind, lambda _: httpx.Response(503, json=degraded), "health") == degraded


def test_names_are_quoted_and_those_that_would_change_the_path_refused(kind: str) -> None:
    seen: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200, json=job())

    ask(kind, handler, "job", "a/b?c")
    assert seen == [b"/v1/jobs/a%2Fb%3Fc"]
    for name in ("", ".", ".."):
        with pytest.raises(client.BadInput, match="job_id: want a name or an id"):
            ask(kind, handler, "job", name)


def test_lists_are_read_page_by_page_and_end_at_the_limit(kind: str) -> None:
    seen: list[dict[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.url.params))
        first = "cursor" not in request.url.params
        ids = ["j9", "j8"] if first else ["j7"]
        page = {"jobs": [job(id=one) for one in ids], "next_cursor": "j8" if first else None}
        return httpx.Response(200, json=page)

    assert [one.id for one in ask(kind, handler, "jobs", state="RUNNING")] == ["j9", "j8", "j7"]
    assert seen == [{"state": "RUNNING", "limit": "200"}, {"state": "RUNNING", "limit": "200", "cursor": "j8"}]
    assert [one.id for one in ask(kind, handler, "jobs", limit=2)] == ["j9", "j8"]
    assert len(seen) == 3


def test_a_name_stands_for_its_newest_job(kind: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/jobs/demo":
            return problem(404, "no job 'demo'")
        if request.url.path == "/v1/jobs":
            named = request.url.params["name"] == "demo"
            return httpx.Response(200, json={"jobs": [job(id="j5")] if named else [], "next_cursor": None})
        return httpx.Response(200, json=job(id=request.url.path.rpartition("/")[2]))

    assert ask(kind, handler, "find", "demo").id == "j5"
    assert ask(kind, handler, "find", "j3").id == "j3"


def test_an_archived_job_is_found_by_its_name_behind_the_others_or_before_them(kind: str) -> None:
    named = {"no": ["j5"], "yes": ["j4", "j3"]}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/jobs/demo":
            return problem(404, "no job 'demo'")
        if request.url.path == "/v1/jobs":
            found = named.get(request.url.params["archived"], [])[: int(request.url.params["limit"])]
            return httpx.Response(200, json={"items": [job(id=one) for one in found], "next_cursor": None})
        return httpx.Response(200, json=job(id=request.url.path.rpartition("/")[2]))

    assert ask(kind, handler, "find", "demo").id == "j5"
    assert ask(kind, handler, "find", "demo", archived_first=True).id == "j4"
    del named["no"]
    assert ask(kind, handler, "find", "demo").id == "j4"
    named.clear()
    with pytest.raises(client.NotFound, match="no job 'demo'"):
        ask(kind, handler, "find", "demo", archived_first=True)


def test_the_api_may_ask_for_patience(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = recorded_sleeps(monkeypatch)
    answers = [problem(429, "slow down", **{"retry-after": "7"}), httpx.Response(200, json=job())]
    assert ask(kind, lambda _: answers.pop(0), "job", "j1").id == "j1"
    assert slept == [7.0]


def test_more_patience_than_the_limit_is_not_had(kind: str) -> None:
    calls: list[Any] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return problem(429, "slow down", **{"retry-after": "3600"})

    with pytest.raises(client.RateLimited) as raised:
        ask(kind, handler, "job", "j1")
    assert (raised.value.retry_after_s, len(calls)) == (3600.0, 1)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8400", "ftp://x", "http://"])
def test_what_is_no_address_is_refused_at_once(kind: str, url: str) -> None:
    made = client.GigpoClient if kind == "sync" else client.AsyncGigpoClient
    with pytest.raises(client.BadInput, match="want the address of an API"):
        made(url)


def test_a_deletion_whose_answer_was_lost_is_done(kind: str) -> None:
    calls: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        if len(calls) == 1:
            raise httpx.ReadError("cut", request=request)
        return problem(404, "no checkpoint 'b1'")

    assert ask(kind, handler, "delete_checkpoint", "j1", "b1") is None
    assert calls == ["DELETE", "DELETE"]
    with pytest.raises(client.NotFound):
        ask(kind, handler, "delete_checkpoint", "j1", "b1")


def test_no_summary_yet_is_none_and_no_job_is_an_error(kind: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        there = request.url.path == "/v1/jobs/j1"
        return httpx.Response(200, json=job()) if there else problem(404, f"no {request.url.path}")

    assert ask(kind, handler, "summary", "j1") is None
    with pytest.raises(client.NotFound, match=r"no /v1/jobs/j2$"):
        ask(kind, handler, "summary", "j2")
