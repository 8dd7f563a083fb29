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
from gigpo.client.stack import (
    RunningStack,
    _tail,
    found_runs,
    keep_stack,
    running_stack,
    stack_command,
    stack_holder,
    stack_in_use,
    stack_variables,
    stop_stack,
)

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
    assert (running_stack(tmp_path), stack_holder(tmp_path)) == (None, None)
    with held(tmp_path) as folder:
        assert (running_stack(tmp_path), stack_holder(tmp_path)) == (None, 7)  # it is starting
        record(folder)
        assert running_stack(tmp_path) == RunningStack(7, URL)
    assert running_stack(tmp_path) is None  # it was killed, and its record is left


def test_a_stack_is_found_from_folders_below_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    runs = Path("runs")
    assert found_runs(runs) == runs
    with held(tmp_path / "runs"):
        assert found_runs(runs) == Path("../../runs")
        assert found_runs(runs, tmp_path) == runs
        with held(tmp_path / "a" / "runs"):  # the nearest one
            assert found_runs(runs) == Path("../runs")
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # another user's is none of ours
        assert found_runs(runs) == runs


def test_a_temporary_stack_can_be_stopped_by_the_last_who_uses_it(tmp_path: Path) -> None:
    with held(tmp_path) as folder:
        with stack_in_use(tmp_path) as can_be_stopped:
            assert not can_be_stopped()  # it was not started for a job
        (folder / "stack.temporary").write_text("7")
        with stack_in_use(tmp_path) as first, stack_in_use(tmp_path) as second:
            assert not first()
            assert second()
        with stack_in_use(tmp_path) as can_be_stopped:
            assert can_be_stopped()
        keep_stack(tmp_path)
        with stack_in_use(tmp_path) as can_be_stopped:
            assert not can_be_stopped()
        (folder / "stack.temporary").write_text("6")  # of a stack before this one
        with stack_in_use(tmp_path) as can_be_stopped:
            assert not can_be_stopped()


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
    assert stop_stack(tmp_path, 7) is True


def test_a_stack_is_asked_to_stop_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: told.append((pid, number)))
    assert stop_stack(tmp_path, 7) is True
    assert told == [(7, 15)]
    monkeypatch.setattr("gigpo.client.stack.STOP_S", -1.0)
    with held(tmp_path):
        assert stop_stack(tmp_path, 7) is False


def test_a_stack_is_placed_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STACK_API_PORT", "9")
    variables = stack_variables(tmp_path)
    assert (variables["STACK_DATA_DIR"], variables["STACK_API_PORT"]) == (str(tmp_path / ".platform"), "9")
    assert stack_variables(tmp_path, 12)["STACK_API_PORT"] == "12"
    assert stack_command() == [sys.executable, "-m", "services.stack.main"]
    monkeypatch.setattr("gigpo.client.stack.find_spec", lambda _: None)
    with pytest.raises(NoStack, match="this installation is the client alone: pip install"):
        stack_command()


def test_the_end_of_a_log_begins_where_this_stack_did(tmp_path: Path) -> None:
    log = tmp_path / "stack.log"
    log.write_bytes(b"older\n" + b"\xff" + b"x" * 4_000 + b"last\n")
    assert _tail(log, 6).endswith("xlast")
    assert len(_tail(log, 6)) < 3_001
    assert "older" not in _tail(log, 0)
    assert _tail(log, len(log.read_bytes())) == "(empty)"
