"""Events over broken connections, and files that are there wholly or not at all; the same on both clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from gigpo import client
from gigpo.client.http.events import EventParser
from tests.unit.client.both_clients import KINDS, Cut, Handler, ask, job, problem, recorded_sleeps

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


def test_an_event_stream_is_asked_for_with_patience_and_from_where_it_was_left(kind: str) -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=sent("8-0", 1))

    assert [event.id for event in ask(kind, handler, "events", "j1", "7-0", follow=False)] == ["8-0"]
    (asked,) = seen
    assert (asked.headers["last-event-id"], asked.headers["accept"]) == ("7-0", "text/event-stream")
    assert asked.extensions["timeout"] == {"connect": 30.0, "read": 60.0, "write": 30.0, "pool": 30.0}
    assert dict(asked.url.params) == {"follow": "false"}


def test_a_stream_that_ends_well_is_asked_for_again_after_the_first_wait(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept, states = recorded_sleeps(monkeypatch), ["RUNNING", "SUCCEEDED"]

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(200, content=b"")
        return httpx.Response(200, json=job(state=states.pop(0)))

    assert ask(kind, handler, "events", "j1", retries=client.Retries(first_wait_s=0.25)) == []
    assert slept == [0.25]


def test_a_follower_gives_up_after_so_many_failures_in_a_row(kind: str) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["last-event-id"])
        progress = len(asked) in (2, 4)
        return httpx.Response(200, stream=Cut(sent(f"{len(asked)}-0", 1) if progress else b""))

    with pytest.raises(client.Unreachable, match="cut"):
        ask(kind, handler, "events", "j1", retries=client.Retries(limit=2, first_wait_s=0.0))
    assert asked == ["0-0", "0-0", "2-0", "2-0", "4-0", "4-0"]  # an event begins the count anew


def test_a_job_that_is_gone_ends_its_followers(kind: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(200, content=sent("1-0", 0))
        return problem(404, "no job 'j1'")

    with pytest.raises(client.NotFound, match="no job"):
        ask(kind, handler, "events", "j1")


@pytest.mark.parametrize("data", ["{", "[]", "7", '{"kind": "metrics"}', '{"id": "2-0", "kind": "x"}'])
def test_what_is_no_event_is_said_to_be_none(kind: str, data: str) -> None:
    with pytest.raises(client.BadAnswer, match="the event 5-0 cannot be read"):
        list(EventParser().feed(f"id: 5-0\ndata: {data}\n\n".encode()))


def test_an_event_may_say_more_and_fields_without_a_space_are_read(kind: str) -> None:
    line = b'retry: 3\nid:7-1\ndata:{"kind": "news", "at_unix_s": 2.5, "data": {"a": [1]}, "more": 1}\n\n'
    (event,) = EventParser().feed(line)
    assert (event.id, event.kind, event.at_unix_s, event.data) == ("7-1", "news", 2.5, {"a": [1]})
    assert list(EventParser().feed(b"data: {")) == []  # a line that is not over


def test_the_lines_of_an_event_are_joined_by_a_line_break(kind: str) -> None:
    lines = b'id: 7-1\ndata: {"kind": "news", "at_unix_s": 2.5,\ndata: "data": {"a": 1%s}}\n\n'
    (event,) = EventParser().feed(lines % b"\ndata: ")
    assert event.data == {"a": 1}
    with pytest.raises(client.BadAnswer):  # 1 and 2 are no 12
        list(EventParser().feed(lines % b"\ndata: 2"))


class Watched(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that goes on for ever, and knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from (sent(f"{at}-0", at) for at in range(10**9))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(10**9):
            yield sent(f"{at}-0", at)

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def test_a_loop_that_ends_early_frees_its_connection(kind: str) -> None:
    body = Watched()
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))

    async def first() -> str:
        async with client.AsyncGigpoClient("http://api", transport=transport) as awaited:
            async with aclosing(awaited.events("j1")) as events:
                found = await anext(events)
                assert not body.closed
            assert body.closed
            return str(found.id)

    if kind == "async":
        assert asyncio.run(first()) == "0-0"
        return
    with client.GigpoClient("http://api", transport=transport) as waiting:
        with closing(waiting.events("j1")) as events:
            assert next(events).id == "0-0"
            assert not body.closed
        assert body.closed


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


def download(kind: str, handler: Handler, target: Path, **options: Any) -> bytes:
    ask(kind, handler, "download", "j1", "final", target.name, target, **options)
    return target.read_bytes()


def test_a_body_that_is_shorter_than_declared_is_broken(kind: str, tmp_path: Path) -> None:
    def handler(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=CONTENT[:-1], headers={"content-length": "500"})

    with pytest.raises(client.BrokenDownload, match="x: want 500 bytes, got 499"):
        download(kind, handler, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_file_without_a_version_is_read_from_its_beginning(kind: str, tmp_path: Path) -> None:
    ranges: list[str | None] = []

    def handler(request: httpx.Request) -> httpx.Response:
        ranges.append(request.headers.get("range"))
        assert request.headers["accept-encoding"] == "identity"
        return (
            httpx.Response(200, stream=Cut(CONTENT[:9])) if len(ranges) == 1 else httpx.Response(200, content=CONTENT)
        )

    assert download(kind, handler, tmp_path / "x") == CONTENT
    assert ranges == [None, None]


def test_the_size_of_a_file_that_comes_in_parts_is_the_whole_one(kind: str, tmp_path: Path) -> None:
    parts = [CONTENT[:100], CONTENT[100:300]]

    def handler(request: httpx.Request) -> httpx.Response:
        headers = {"etag": '"a"'}
        if parts:
            begin = int(request.headers.get("range", "bytes=0-")[6:-1])
            return httpx.Response(206 if begin else 200, stream=Cut(parts.pop(0)), headers=headers)
        assert request.headers["range"] == "bytes=300-"
        return httpx.Response(206, content=CONTENT[300:], headers={**headers, "content-range": "bytes 300-499/501"})

    with pytest.raises(client.BrokenDownload, match="want 501 bytes, got 500"):
        download(kind, handler, tmp_path / "x")


def test_a_download_that_moves_on_is_never_given_up(kind: str, tmp_path: Path) -> None:
    calls: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        begin = int(request.headers.get("range", "bytes=0-")[6:-1])
        calls.append(begin)
        part = CONTENT[begin : begin + 50]
        body = Cut(part) if begin + 50 < len(CONTENT) else httpx.ByteStream(part)
        return httpx.Response(206 if begin else 200, stream=body, headers={"etag": '"a"'})

    assert download(kind, handler, tmp_path / "x", retries=client.Retries(limit=1, first_wait_s=0.0)) == CONTENT
    assert calls == list(range(0, 500, 50))
    stuck: list[str] = []

    def silent(request: httpx.Request) -> httpx.Response:
        stuck.append(request.url.path)
        return httpx.Response(200, stream=Cut())

    with pytest.raises(client.Unreachable):
        download(kind, silent, tmp_path / "y", retries=client.Retries(limit=1, first_wait_s=0.0))
    assert len(stuck) == 2


def test_a_download_waits_while_the_api_is_busy(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = recorded_sleeps(monkeypatch)
    answers = [problem(503, "busy", **{"retry-after": "3"}), httpx.Response(200, content=CONTENT)]
    assert download(kind, lambda _: answers.pop(0), tmp_path / "x") == CONTENT
    assert slept == [3.0]


def test_the_name_of_a_file_is_quoted(kind: str, tmp_path: Path) -> None:
    seen: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200, content=b"")

    ask(kind, handler, "download", "j1", "b 1", "a/b", tmp_path / "x")
    ask(kind, handler, "export_checkpoint", "j1", "b 1", tmp_path / "y")
    assert seen == [b"/v1/jobs/j1/checkpoints/b%201/files/a%2Fb", b"/v1/jobs/j1/checkpoints/b%201/export"]
