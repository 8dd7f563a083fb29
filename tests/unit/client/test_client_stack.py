"""Which stack a folder has: what its lock and its record say, without a process."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gigpo.client import NoStack
from gigpo.client.stack import RunningStack, _tail, running_stack, stack_command, stack_variables, stop_stack

URL = "http://127.0.0.1:8400"


@contextmanager
def held(runs: Path, holder: str = "7") -> Iterator[Path]:
    """A folder whose lock somebody holds."""
    folder = runs / ".platform"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stack.lock").write_text(holder)
    with (folder / "stack.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def record(folder: Path, pid: int = 7) -> None:
    (folder / "stack.json").write_text(json.dumps({"pid": pid, "api_url": URL}))


def test_a_stack_is_up_while_it_holds_its_folder(tmp_path: Path) -> None:
    assert running_stack(tmp_path) is None
    with held(tmp_path) as folder:
        assert running_stack(tmp_path) is None  # it is starting
        record(folder)
        assert running_stack(tmp_path) == RunningStack(7, URL)
    assert running_stack(tmp_path) is None  # it was killed, and its record is left


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 7}', '{"pid": "x", "api_url": "u"}'])
def test_half_a_record_is_no_stack(tmp_path: Path, text: str) -> None:
    with held(tmp_path) as folder:
        (folder / "stack.json").write_text(text)
        assert running_stack(tmp_path) is None


def test_a_record_of_an_earlier_stack_does_not_count(tmp_path: Path) -> None:
    with held(tmp_path, holder="8") as folder:
        record(folder, pid=7)
        assert running_stack(tmp_path) is None


def test_stopping_what_is_gone_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: int) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    assert stop_stack(tmp_path, RunningStack(7, URL)) is True


def test_a_stack_is_asked_to_stop_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number)))
    assert stop_stack(tmp_path, RunningStack(7, URL)) is True
    assert told == [(7, 15)]
    monkeypatch.setattr("gigpo.client.stack.STOP_S", -1.0)
    with held(tmp_path):
        assert stop_stack(tmp_path, RunningStack(7, URL)) is False


def test_a_stack_is_placed_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_API_PORT", "9")
    variables = stack_variables(tmp_path)
    assert (variables["STACK_DATA_DIR"], variables["STACK_API_PORT"]) == (str(tmp_path / ".platform"), "9")
    assert stack_command() == [sys.executable, "-m", "services.stack.main"]
    monkeypatch.setattr("gigpo.client.stack.find_spec", lambda _: None)
    with pytest.raises(NoStack, match="only the client is installed here: run pip install"):
        stack_command()


def test_the_end_of_a_log_begins_where_this_stack_did(tmp_path: Path) -> None:
    log = tmp_path / "stack.log"
    log.write_bytes(b"older\n" + b"\xff" + b"x" * 4_000 + b"last\n")
    assert _tail(log, 6).endswith("xlast")
    assert len(_tail(log, 6)) < 3_001
    assert "older" not in _tail(log, 0)
    assert _tail(log, len(log.read_bytes())) == "(empty)"
