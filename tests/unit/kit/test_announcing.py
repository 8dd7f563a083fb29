"""A service says that it is ready, also where its address file finds no room."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from services.kit.lifecycle import announce


def test_the_address_is_in_the_file_and_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    announce("api", "http://127.0.0.1:1", tmp_path / "api.json")
    said = capsys.readouterr().out
    assert json.loads(said)["address"] == "http://127.0.0.1:1"
    assert (tmp_path / "api.json").read_text() == said.strip()
    assert [path.name for path in tmp_path.iterdir()] == ["api.json"]


def test_a_full_disk_leaves_the_file_as_it_was_and_the_service_is_ready(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "api.json").write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        announce("api", "http://127.0.0.1:2", tmp_path / "api.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["address"] == "http://127.0.0.1:2"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("api.json", "before")]


def test_an_address_file_in_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        announce("api", "http://127.0.0.1:1", tmp_path / "absent" / "api.json")
