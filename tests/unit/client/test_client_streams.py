"""Events over broken connections, and files that are there wholly or not at all; the same on both clients."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from gigpo import client
from gigpo.client.http.events import EventParser
from tests.unit.client.both_clients import KINDS, Cut, ask, job, problem

pytestmark = pytest.mark.parametrize("kind", KINDS)


def sent(id_: str, batch: int) -> bytes:
    body = json.dumps({"kind": "metrics", "at_unix_s": 1.0, "data": {"batch": batch}})
    return f": still here\n\nid: {id_}\nevent: metrics\ndata: {body}\n\n".encode()


def test_every_event_comes_once_over_a_broken_connection(kind: str) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json=job(state="SUCCEEDED"))
        asked.append(request.headers["last-event-id"])
        match len(asked):
            case 1:
                return httpx.Response(200, stream=Cut(sent("1-0", 0), sent("2-0", 1)[:40]))
            case 2:
                raise httpx.ConnectError("refused", request=request)
            case 3:
                return problem(503, "starting")
            case _:
                return httpx.Response(200, content=sent("2-0", 1) + sent("3-0", 2))

    events = ask(kind, handler, "events", "j1")
    assert [(event.id, event.data["batch"]) for event in events] == [("1-0", 0), ("2-0", 1), ("3-0", 2)]
    assert asked == ["0-0", "1-0", "1-0", "1-0"]


def test_a_stream_that_ends_before_its_job_is_asked_for_again(kind: str) -> None:
    states, asked = ["RUNNING", "SUCCEEDED"], list[str]()

    def handler(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json=job(state=states.pop(0)))
        asked.append(request.headers["last-event-id"])
        return httpx.Response(200, content=sent(f"{len(asked)}-0", len(asked)))

    assert [event.id for event in ask(kind, handler, "events", "j1")] == ["1-0", "2-0"]
    assert asked == ["0-0", "1-0"]


def test_following_what_is_not_there_is_refused(kind: str) -> None:
    with pytest.raises(client.NotFound, match="no job"):
        ask(kind, lambda _: problem(404, "no job 'j1'"), "events", "j1")


def test_events_are_read_however_the_bytes_are_cut(kind: str) -> None:
    whole = sent("1-0", 4) + sent("2-0", 5).replace(b"\n", b"\r\n")
    for size in (1, 3, len(whole)):
        parser = EventParser()
        chunks = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert [event.id for chunk in chunks for event in parser.feed(chunk)] == ["1-0", "2-0"]


CONTENT = b"0123456789" * 50


def test_a_download_goes_on_where_it_broke(kind: str, tmp_path: Path) -> None:
    ranges: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        ranges.append(request.headers.get("range"))
        if len(ranges) == 1:
            return httpx.Response(200, stream=Cut(CONTENT[:120]), headers={"etag": '"a"', "content-length": "500"})
        assert request.headers["if-range"] == '"a"'
        declared = {"content-range": "bytes 120-499/500", "etag": '"a"'}
        return httpx.Response(206, content=CONTENT[120:], headers=declared)

    target = tmp_path / "new" / "model.safetensors"
    assert ask(kind, handler, "download", "j1", "final", target.name, target) == target
    assert target.read_bytes() == CONTENT
    assert ranges == [None, "bytes=120-"]


def test_a_file_that_changed_meanwhile_is_read_from_its_beginning(kind: str, tmp_path: Path) -> None:
    calls: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        if len(calls) == 1:
            return httpx.Response(200, stream=Cut(b"old " * 20), headers={"etag": '"a"'})
        return httpx.Response(200, content=CONTENT, headers={"etag": '"b"'})

    ask(kind, handler, "download", "j1", "final", "x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == CONTENT


def test_a_refused_download_leaves_nothing(kind: str, tmp_path: Path) -> None:
    with pytest.raises(client.NotFound, match="no checkpoint"):
        ask(kind, lambda _: problem(404, "no checkpoint 'x'"), "export_checkpoint", "j1", "x", tmp_path / "x.tar")
    assert list(tmp_path.iterdir()) == []
