"""`gigpo dlq`: what is asked, what is said, what is refused."""

from __future__ import annotations

import io
from typing import Any

import httpx
import pytest

from tests.unit.client.both_clients import problem
from tests.unit.client.fake_api import FakeApi, Gigpo, job

ID = "groups.j1.1795605451797-0"


def letter(**fields: Any) -> dict[str, Any]:
    return {
        "id": ID,
        "stream": "groups",
        "owner": "j1",
        "job_id": "j1",
        "service": "rollout",
        "cause": "it [b]broke[/b]",
        "first_unix_s": 1795605451.797,
        "last_unix_s": 1795605461.0,
        "times": 2,
        "size_bytes": 1234,
        "cut": False,
        **fields,
    }


@pytest.fixture
def letters(fake_api: FakeApi) -> FakeApi:
    """An API with one dead letter."""
    fake_api.has(job(name="demo"))
    fields = [{"name": "p", "size_bytes": 1234, "text": '{"group_id":"g1"}', "cut": True}]
    fake_api.answers |= {
        "GET /v1/dead-letters": {"items": [letter()], "next_cursor": None},
        f"GET /v1/dead-letters/{ID}": letter(group_id="g1", fields=fields),
        f"POST /v1/dead-letters/{ID}:retry": {"id": ID, "stream": "groups", "owner": "j1", "entry_id": "9-1"},
        f"DELETE /v1/dead-letters/{ID}": httpx.Response(204),
    }
    return fake_api


def test_letters_are_listed_with_their_cause(letters: FakeApi, gigpo: Gigpo) -> None:
    done = gigpo("dlq", "list")
    assert done.code == 0
    assert done.rows[0] == ["id", "service", "first", "last", "times", "cause"]
    assert (done.rows[1][:2], done.rows[1][6:]) == ([ID, "rollout"], ["2", "it", "[b]broke[/b]"])
    assert gigpo("dlq", "list", "--json").document == [letter()]


def test_letters_of_one_job_are_asked_for_by_its_id(letters: FakeApi, gigpo: Gigpo) -> None:
    assert gigpo("dlq", "list", "--job", "demo", "--limit", "5").code == 0
    assert letters.query() == {"job_id": "j1", "limit": "5"}


def test_no_letters_are_said_in_words(fake_api: FakeApi, gigpo: Gigpo) -> None:
    fake_api.answers["GET /v1/dead-letters"] = {"items": [], "next_cursor": None}
    assert gigpo("dlq", "list").out == "no dead letters\n"
    assert gigpo("dlq", "list", "--json").document == []


def test_a_letter_is_shown_with_its_content(letters: FakeApi, gigpo: Gigpo) -> None:
    out = gigpo("dlq", "show", ID).out
    for said in ("groups of j1", "it [b]broke[/b]", "1,234 bytes", "g1", 'p (1,234 bytes, cut):\n{"group_id":"g1"}'):
        assert said in out
    assert gigpo("dlq", "show", ID, "--json").document["fields"][0]["cut"] is True


def test_a_letter_is_put_back_and_a_retry_is_sent_once(letters: FakeApi, gigpo: Gigpo) -> None:
    assert gigpo("dlq", "retry", ID).out == f"{ID} was put back into groups of j1, as entry 9-1\n"
    assert gigpo("dlq", "retry", ID, "--json").document["entry_id"] == "9-1"
    letters.answers[f"POST /v1/dead-letters/{ID}:retry"] = problem(409, "cannot retry dead letter: no")
    refused = gigpo("dlq", "retry", ID)
    assert (refused.code, refused.err) == (2, "gigpo: cannot retry dead letter: no\n")


def test_a_message_of_the_trainers_queue_is_said_to_be_in_the_queue_again(fake_api: FakeApi, gigpo: Gigpo) -> None:
    of_queue = "queue.trainer.1795605451797-0"
    place = {"id": of_queue, "stream": "queue", "owner": "trainer"}
    fake_api.answers |= {
        f"GET /v1/dead-letters/{of_queue}": letter(**place, job_id=None, group_id=None, fields=[]),
        f"POST /v1/dead-letters/{of_queue}:retry": {**place, "entry_id": "j1"},
    }
    assert gigpo("dlq", "retry", of_queue).out == f"{of_queue} was put back into the trainers' queue, as job j1\n"
    assert "stream   the trainers' queue\n" in gigpo("dlq", "show", of_queue).out


def test_a_letter_is_dropped_when_somebody_says_so(
    letters: FakeApi, gigpo: Gigpo, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gigpo("dlq", "drop", ID, "--yes").out == f"dropped {ID}\n"
    assert gigpo("dlq", "drop", ID, "-y", "--json").document == {"dropped": ID}
    sent = len(letters.requests)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert gigpo("dlq", "drop", ID).code == 1
    assert len(letters.requests) == sent


@pytest.mark.parametrize("command", ["list", "show", "retry", "drop"])
def test_every_command_explains_itself_with_an_example(gigpo: Gigpo, command: str) -> None:
    assert f"gigpo dlq {command}" in gigpo("dlq", command, "--help").out
