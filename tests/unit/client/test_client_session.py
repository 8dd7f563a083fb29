"""Which API a command speaks to, when a stack is started and stopped for it, and how errors end it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import typer
from rich.console import Console

from gigpo.client import BadInput, GigpoClient, GigpoError, NoStack, session
from gigpo.client.document import checked, default_document, with_flags
from gigpo.client.session import has_work
from gigpo.client.stack import RunningStack
from services.contracts.states import JobState
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


def test_an_api_that_is_named_wins_over_the_folder_s_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIGPO_API_KEY", "gk_secret")
    monkeypatch.setattr(session, "running_stack", lambda _: RunningStack(7, "http://here:1"))
    with session.connected(tmp_path, "http://there:2") as client:
        assert (client.url, client._http.headers["authorization"]) == ("http://there:2", "Bearer gk_secret")
    monkeypatch.setenv("GIGPO_API_KEY", "")
    with session.connected(tmp_path, None) as client:
        assert (client.url, "authorization" in client._http.headers) == ("http://here:1", False)
    monkeypatch.setattr(session, "running_stack", lambda _: None)
    with (
        pytest.raises(NoStack, match="start one with `gigpo up`, or name another API with --api"),
        session.connected(tmp_path, None),
    ):
        pass


class Stacks:
    """Starting and stopping, noted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, up: bool, works: bool) -> None:
        self.noted: list[str] = []
        stack = RunningStack(7, "http://here:1")
        monkeypatch.setattr(session, "running_stack", lambda _: stack if up else None)
        monkeypatch.setattr(session, "start_stack", self._start)
        monkeypatch.setattr(session, "stop_stack", lambda *_: self.noted.append("stop"))
        monkeypatch.setattr(session, "has_work", lambda _: works)
        monkeypatch.setattr(session, "stack_in_use", self._in_use)
        self._stack, self._temporary = stack, False

    def _start(self, *_: object, temporary: bool) -> RunningStack:
        self.noted.append("start")
        self._temporary = temporary
        return self._stack

    @contextmanager
    def _in_use(self, _: Path) -> Iterator[Callable[[], bool]]:
        yield lambda: self._temporary


@pytest.mark.parametrize(
    ("up", "works", "noted"),
    [(True, False, []), (False, False, ["start", "stop"]), (False, True, ["start"]), (True, True, [])],
)
@pytest.mark.parametrize("fails", [False, True])
def test_a_stack_is_stopped_by_who_started_it_when_nobody_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, up: bool, works: bool, noted: list[str], fails: bool
) -> None:
    stacks, written = Stacks(monkeypatch, up=up, works=works), io.StringIO()
    spec = checked(default_document())

    def use() -> None:
        with session.platform_for(spec, tmp_path, None, Console(file=written)) as client:
            assert client.url == "http://here:1"
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            use()
    else:
        use()
    assert stacks.noted == noted
    assert ("starting one" in written.getvalue()) == ("start" in noted)


def test_following_a_job_starts_no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks, words = Stacks(monkeypatch, up=False, works=False), Console(file=io.StringIO())
    with pytest.raises(NoStack, match="no stack is running in"), session.following(tmp_path, None, words):
        pass
    with session.following(tmp_path, "http://there:2", words) as client:
        assert client.url == "http://there:2"
    stacks = Stacks(monkeypatch, up=True, works=False)
    with session.following(tmp_path, None, words) as client:
        assert client.url == "http://here:1"
    assert stacks.noted == []


def test_a_named_api_starts_no_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = Stacks(monkeypatch, up=False, works=False)
    spec = checked(with_flags(default_document(), {"model": "/no/such/model"}))  # a folder of the API's machine
    with session.platform_for(spec, tmp_path, "http://there:2", Console(file=io.StringIO())) as client:
        assert client.url == "http://there:2"
    assert stacks.noted == []
    with pytest.raises(BadInput, match="no such folder"):
        session.platform_for(spec, tmp_path, None, Console(file=io.StringIO())).__enter__()
    assert stacks.noted == []


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (BadInput("want x"), 2, "gigpo: want x\n"),
        (NoStack("no stack"), 3, "gigpo: no stack\n"),
        (GigpoError("no"), 1, "gigpo: no\n"),
        (PermissionError(13, "Permission denied", "/root/x"), 2, "gigpo: /root/x: Permission denied\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_a_sentence_and_an_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @session.says_errors
    def command() -> None:
        raise error

    with pytest.raises(typer.Exit) as ended:
        command()
    assert (ended.value.exit_code, capsys.readouterr().err) == (code, said)


def test_an_error_that_names_no_file_is_a_defect_and_not_hidden() -> None:
    @session.says_errors
    def command() -> None:
        raise OSError("no file at all")

    with pytest.raises(OSError, match="no file at all"):
        command()


def test_json_goes_to_stdout_and_words_give_way(capsys: pytest.CaptureFixture[str]) -> None:
    session.emit({"a": JobState.RUNNING})
    session.emit({"a": 1}, lines=True)
    session.console(json_output=True).print("for people")
    written = capsys.readouterr()
    assert (written.out, written.err) == ('{\n  "a": "RUNNING"\n}\n{"a": 1}\n', "for people\n")
    session.console(json_output=False).print("[b]not bold[/b] :key: " + "x" * 300)
    assert capsys.readouterr().out == "[b]not bold[/b] :key: " + "x" * 300 + "\n"
