"""A place for results that takes no file is found before anything is started."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from gigpo.client.errors import BadInput
from gigpo.client.own_files import require_writable
from tests.unit.client.fake_api import FakeApi, Gigpo, job


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that takes no file, not even from root's tests, which become another user for the time."""
    tmp_path.chmod(0o755)
    (tmp_path / "locked").mkdir(mode=0o555)
    monkeypatch.chdir(tmp_path)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield Path("locked")
    os.seteuid(before)


def test_whether_a_folder_takes_files_is_found_without_a_trace(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "a" / "b"):
        require_writable(folder)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_a_folder_that_takes_no_file_is_named(locked: Path, below: str) -> None:
    with pytest.raises(BadInput, match=rf"^{locked / below}: no file can be written there: .+ \({locked}\)$"):
        require_writable(locked / below)


def test_a_folder_on_a_full_disk_is_named(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # an empty file can be made, and nothing written into it
    try:
        with pytest.raises(BadInput, match=r"/runs: no file can be written there: File too large"):
            require_writable(tmp_path / "runs")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [*tmp_path.iterdir()] == []


COMMANDS = [("train", "--output"), ("jobs", "follow", "j1", "--output"), ("compare", "--runs")]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("folder", ["/proc/x", "file/x"])
def test_results_that_cannot_be_written_are_refused_before_anything_starts(
    fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path, command: tuple[str, ...], folder: str
) -> None:
    fake_api.has(job())
    Path("file").touch()
    done = gigpo(*command, folder)
    assert (done.code, "no file can be written there" in done.err) == (2, True), done.err
    assert done.err.startswith(f"gigpo: {folder}")
    assert not [one for one in fake_api.requests if one.method == "POST" or one.url.path.endswith("/events")]
