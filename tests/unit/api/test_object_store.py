"""Copies of checkpoints in an object store: whole or not there, the same bytes back, and never over what exists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from services.api.archive import main
from services.api.artifacts.object_store import ObjectStore, StoreError

URL = "memory://bucket/prefix"
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 50, "trainer/state.pt": b"state"}


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    memory = fsspec.filesystem("memory")
    memory.mkdirs("/bucket", exist_ok=True)
    yield ObjectStore(URL)
    memory.rm("/bucket", recursive=True)


def checkpoint(folder: Path) -> Path:
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored(name: str) -> str:
    return f"/bucket/prefix/j1/{name}"


def test_a_checkpoint_comes_back_as_it_was(store: ObjectStore, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "b000002")
    assert store.save("j1", "b000002", folder) == sum(map(len, FILES.values()))
    assert store.names("j1") == ["b000002"]
    assert store.restore("j1", "b000002", tmp_path / "back" / "b000002") == sum(map(len, FILES.values()))
    assert contents(tmp_path / "back" / "b000002") == FILES
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["b000002"]


def test_what_is_there_already_is_not_sent_again_and_what_changed_is(store: ObjectStore, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "final")
    store.save("j1", "final", folder)
    assert store.save("j1", "final", folder) == 0
    (folder / "config.json").write_bytes(b'{"a": 1}')
    assert store.save("j1", "final", folder) > 0
    store.restore("j1", "final", tmp_path / "back")
    assert (tmp_path / "back" / "config.json").read_bytes() == b'{"a": 1}'


def test_a_copy_that_was_not_finished_is_no_copy(store: ObjectStore, tmp_path: Path) -> None:
    store.save("j1", "b000002", checkpoint(tmp_path / "b000002"))
    fsspec.filesystem("memory").rm(stored("b000002.json"))
    assert store.names("j1") == store.names("j2") == []
    with pytest.raises(StoreError, match="has no whole copy"):
        store.restore("j1", "b000002", tmp_path / "back")


def test_a_damaged_copy_is_not_restored(store: ObjectStore, tmp_path: Path) -> None:
    store.save("j1", "final", checkpoint(tmp_path / "final"))
    fsspec.filesystem("memory").pipe_file(stored("final/model.safetensors"), b"other")
    with pytest.raises(StoreError, match=r"final/model\.safetensors: .* the copy is damaged"):
        store.restore("j1", "final", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_checkpoint_that_exists_is_left_alone(store: ObjectStore, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "final")
    store.save("j1", "final", folder)
    with pytest.raises(StoreError, match="this one exists"):
        store.restore("j1", "final", folder)
    assert contents(folder) == FILES


@pytest.mark.parametrize("file", ["../../outside", "/etc/outside", "a/../../b"])
def test_a_copy_names_no_file_outside_its_checkpoint(store: ObjectStore, tmp_path: Path, file: str) -> None:
    told = json.dumps({file: [1, "0" * 64]}).encode()
    fsspec.filesystem("memory").pipe_file(stored("final.json"), told)
    with pytest.raises(StoreError, match="want files inside the checkpoint"):
        store.restore("j1", "final", tmp_path / "back")


def test_an_unknown_kind_of_store_is_a_sentence() -> None:
    with pytest.raises(StoreError, match="want the URL of a store whose library is installed"):
        ObjectStore("nosuch://bucket")


@pytest.fixture
def settings(store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("API_ARCHIVE_URL", URL)
    monkeypatch.setenv("API_DATA_DIR", str(tmp_path))
    return tmp_path / "jobs"


def test_the_command_saves_ended_jobs_and_brings_back_what_is_gone(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(settings / "j1" / "checkpoints" / "b000002")
    final = checkpoint(settings / "j1" / "final")
    checkpoint(settings / "j2" / "final")  # it has no summary: it runs
    (settings / "j1" / "summary.json").write_text("{}")
    assert main(["save"]) == 0
    size = sum(map(len, FILES.values()))
    assert capsys.readouterr().out == f"j1 b000002 saved, {size} bytes\nj1 final saved, {size} bytes\n"
    for one in (folder, final):
        for path in sorted(one.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        one.rmdir()
    assert main(["restore", "j1"]) == main(["restore", "j1"]) == 0
    assert contents(folder) == contents(final) == FILES
    assert main(["list", "j1"]) == 0
    assert capsys.readouterr().out.endswith("j1 b000002\nj1 final\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["restore", "j1", "b000009"], "want checkpoints that the store holds (none), got b000009"),
        (["restore", "j1", "../../x"], "want checkpoints that the store holds (none), got ../../x"),
        (["restore", "../j1"], "no job"),
    ],
)
def test_the_command_refuses_with_a_sentence(
    settings: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 1
    assert sentence in capsys.readouterr().err
