"""A checkpoint put where a user keeps files: nothing of theirs is removed or changed; the same on both clients."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from gigpo import client
from gigpo.client.own_files import require_own
from tests.unit.client.both_clients import KINDS, Cut, Handler, ask

pytestmark = pytest.mark.parametrize("kind", KINDS)

SMALL = {"config.json": b"{}", "model.safetensors": b"weights" * 50}
SHARDS = {"config.json": b"{ }", "model-1-of-2.safetensors": b"one", "model-2-of-2.safetensors": b"two"}
Files = dict[str, bytes]


def api(files: Files, *, name: str = "final", spoil: str = "") -> Handler:
    """An API with one checkpoint; the file `spoil` never comes whole."""
    listing = [
        {"name": file, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for file, content in files.items()
    ]

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/checkpoints"):
            return httpx.Response(200, json=[{"name": name, "final": True, "created_unix_s": 1.0, "files": listing}])
        if request.url.path.endswith("/export"):
            return httpx.Response(200, content=b"a tar file")
        file = request.url.path.rpartition("/")[2]
        if file == spoil:
            return httpx.Response(200, stream=Cut(files[file][:1]), headers={"content-length": str(len(files[file]))})
        return httpx.Response(200, content=files[file])

    return handler


def fetch(kind: str, files: Files, folder: Path, *, force: bool = False, spoil: str = "") -> None:
    options = {"force": True} if force else {}
    ask(kind, api(files, spoil=spoil), "download_checkpoint", "j1", "final", folder, **options)


def everything(folder: Path) -> dict[str, bytes | str | None]:
    """All that lies below a folder, gigpo's marker aside."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != ".gigpo.json"
    }  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, full of precious things."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "config.json").write_text("mine")
    (tmp_path / "other-model").mkdir()
    (tmp_path / "other-model" / "weights.txt").write_text("precious")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "letter").write_text("dear")
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "link-to-file").symlink_to("notes.txt")
    (tmp_path / "dangling").symlink_to("nowhere")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "refusal"),
    [
        (".", r"^\. contains other files than a gigpo checkpoint: config.json, dangling, elsewhere and 4 more; name"),
        ("other-model", "^other-model contains other files than a gigpo checkpoint: weights.txt; name another folder"),
        ("link", "^link contains other files than a gigpo checkpoint: letter; name another folder"),
        ("notes.txt", "^notes.txt: want a folder, this is a file"),
        ("link-to-file", "^link-to-file: want a folder, this is a file"),
        ("dangling", "^dangling: want a folder, this is a link to nothing"),
    ],
)
def test_a_folder_that_holds_anything_else_is_refused(kind: str, home: Path, output: str, refusal: str) -> None:
    before = everything(home)
    with pytest.raises(client.BadInput, match=refusal):
        fetch(kind, SMALL, Path(output))
    assert everything(home) == before


def test_the_absolute_name_of_the_working_folder_is_refused_too(kind: str, home: Path) -> None:
    before = everything(home)
    with pytest.raises(client.BadInput, match="contains other files"):
        fetch(kind, SMALL, home)
    assert everything(home) == before


@pytest.mark.parametrize("output", [".", "other-model", "link", "new/deeper"])
def test_force_adds_and_replaces_files_and_removes_none(kind: str, home: Path, output: str) -> None:
    before = everything(home)
    fetch(kind, SMALL, Path(output), force=True)
    assert {name: content for name, content in everything(Path(output)).items() if name in SMALL} == SMALL
    kept = everything(home)
    replaced = {"config.json"} if output == "." else set()
    assert {name for name in before if kept.get(name, "gone") != before[name]} == replaced


def test_force_keeps_a_link_s_target_and_refuses_a_folder_of_a_file_s_name(kind: str, home: Path) -> None:
    (home / "config.json").unlink()
    (home / "config.json").symlink_to("notes.txt")
    fetch(kind, SMALL, home, force=True)
    assert (home / "notes.txt").read_text() == "notes"
    (home / "elsewhere" / "model.safetensors").mkdir()
    before = everything(home)
    with pytest.raises(client.BadInput, match=r"elsewhere/model.safetensors: .* a folder has this name"):
        fetch(kind, SMALL, home / "elsewhere", force=True)
    assert everything(home) == before


def test_a_later_checkpoint_replaces_an_earlier_one_and_leaves_no_shard_of_it(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    for files in (SHARDS, SMALL, SHARDS):
        fetch(kind, files, folder)
        assert everything(folder) == files


def test_a_file_that_the_user_changed_is_theirs(kind: str, tmp_path: Path) -> None:
    fetch(kind, SHARDS, tmp_path)
    (tmp_path / "model-1-of-2.safetensors").write_text("merged by hand")
    before = everything(tmp_path)
    with pytest.raises(
        client.BadInput, match=r"contains other files than a gigpo checkpoint: model-1-of-2.safetensors;"
    ):
        fetch(kind, SMALL, tmp_path)
    with pytest.raises(client.BadInput, match=r"holds model-1-of-2.safetensors, other weights"):
        fetch(kind, SMALL, tmp_path, force=True)
    assert everything(tmp_path) == before


def test_a_folder_of_exactly_this_checkpoint_needs_no_marker(kind: str, tmp_path: Path) -> None:
    for name, content in SMALL.items():
        (tmp_path / name).write_bytes(content)
    fetch(kind, SMALL, tmp_path)
    assert everything(tmp_path) == SMALL


@pytest.mark.parametrize("older", [{}, SHARDS], ids=["nothing", "an older one"])
@pytest.mark.parametrize("there", [True, False])
def test_a_broken_download_leaves_everything_as_it_was(kind: str, tmp_path: Path, older: Files, there: bool) -> None:
    folder = tmp_path / "some" / "policy"
    if there:
        folder.mkdir(parents=True)
    if older:
        fetch(kind, older, folder)
    before = everything(tmp_path)
    with pytest.raises(client.GigpoError):
        fetch(kind, SMALL, folder, spoil="model.safetensors")
    assert everything(tmp_path) == before


def test_a_file_that_is_not_the_promised_one_is_no_checkpoint(kind: str, tmp_path: Path) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        answer = api(SMALL)(request)
        return answer if request.url.path.endswith("/checkpoints") else httpx.Response(200, content=b"something else")

    with pytest.raises(client.BrokenDownload, match=r"config.json: want 2 bytes, got 14"):
        ask(kind, handler, "download_checkpoint", "j1", "final", tmp_path / "policy")
    assert everything(tmp_path) == {}


def test_a_file_of_the_right_length_and_other_content_is_refused(kind: str, tmp_path: Path) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        answer = api(SMALL)(request)
        return answer if request.url.path.endswith("/checkpoints") else httpx.Response(200, content=b"[]")

    with pytest.raises(client.BrokenDownload, match=r"config.json: want SHA-256 [0-9a-f]{64}, got [0-9a-f]{64}$"):
        ask(kind, handler, "download_checkpoint", "j1", "final", tmp_path / "policy")
    assert everything(tmp_path) == {}


def test_an_interruption_leaves_nothing_half(kind: str, tmp_path: Path) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("model.safetensors"):
            raise KeyboardInterrupt
        return api(SMALL)(request)

    with pytest.raises(KeyboardInterrupt):
        ask(kind, handler, "download_checkpoint", "j1", "final", tmp_path / "policy")
    assert everything(tmp_path) == {}


def test_what_a_killed_download_left_goes_with_the_next_one(kind: str, tmp_path: Path) -> None:
    (tmp_path / ".gigpo-arriving").mkdir()
    (tmp_path / ".gigpo-arriving" / ".gigpo-lock").touch()
    (tmp_path / ".gigpo-arriving" / "half.safetensors").write_text("half")
    fetch(kind, SMALL, tmp_path)
    assert everything(tmp_path) == SMALL


def test_a_link_in_the_temporary_folder_s_place_is_not_followed(kind: str, home: Path) -> None:
    (home / ".gigpo-arriving").symlink_to("elsewhere")
    before = everything(home)
    with pytest.raises(client.BadInput, match=r"\.gigpo-arriving: gigpo needs this name for its own folder"):
        fetch(kind, SMALL, home, force=True)
    assert everything(home) == before


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["letter", ".lock", ".gigpo.json", "deep/letter"])
def test_a_user_s_own_folder_of_the_temporary_one_s_name_is_kept(
    kind: str, tmp_path: Path, name: str, force: bool
) -> None:
    letter = tmp_path / ".gigpo-arriving" / name
    letter.parent.mkdir(parents=True)
    letter.write_text("dear")
    with pytest.raises(client.BadInput, match=r"\.gigpo-arriving: gigpo needs this name .* rename the existing one"):
        fetch(kind, SMALL, tmp_path, force=force)
    assert letter.read_text() == "dear"


def test_a_user_s_own_file_of_the_temporary_folder_s_name_is_kept(kind: str, tmp_path: Path) -> None:
    (tmp_path / ".gigpo-arriving").write_text("dear")
    with pytest.raises(client.BadInput, match=r"\.gigpo-arriving: gigpo needs this name"):
        fetch(kind, SMALL, tmp_path, force=True)
    assert (tmp_path / ".gigpo-arriving").read_text() == "dear"


def test_the_root_folder_is_refused_by_its_own_entries(kind: str) -> None:
    with pytest.raises(client.BadInput, match=r"^/ contains other files than a gigpo checkpoint: .+, .+ more; name"):
        require_own(Path("/"), "checkpoint")


@pytest.mark.parametrize("name", ["../config.json", "", ".gigpo.json", "a/b"])
def test_an_api_cannot_write_outside_of_the_folder(kind: str, home: Path, name: str) -> None:
    before = everything(home)
    with pytest.raises(client.BadAnswer, match="want plain names of files"):
        fetch(kind, {name: b"evil"}, home / "new")
    assert everything(home) == before


def test_another_checkpoint_name_is_refused_with_those_there_are(kind: str, tmp_path: Path) -> None:
    with pytest.raises(client.NotFound, match="no checkpoint 'b1' of job j1, known: final"):
        ask(kind, api(SMALL), "download_checkpoint", "j1", "b1", tmp_path / "other")


Download = Callable[..., object]


@pytest.fixture(params=["export_checkpoint", "download"])
def one_file(request: pytest.FixtureRequest, kind: str) -> Download:
    """Fetch one file to a target."""
    names = ("j1", "final") if request.param == "export_checkpoint" else ("j1", "final", "config.json")
    return lambda target, **options: ask(kind, api(SMALL), request.param, *names, Path(target), **options)


@pytest.mark.parametrize(
    ("output", "refusal"),
    [
        ("other-model", "^other-model: want the name of a file, this is a folder"),
        ("link", "^link: want the name of a file, this is a folder"),
        (".", r"^\.: want the name of a file, this is a folder"),
        ("notes.txt", "^notes.txt is there already; name another file"),
        ("link-to-file", "^link-to-file is there already"),
        ("dangling", "^dangling is there already"),
        ("pipe", "^pipe: want the name of a file, this is a device"),
    ],
)
def test_one_file_takes_nobody_s_place(one_file: Download, home: Path, output: str, refusal: str) -> None:
    os.mkfifo(home / "pipe")  # as /dev/null, which no test should be trusted with
    before = everything(home)
    with pytest.raises(client.BadInput, match=refusal):
        one_file(output)
    assert everything(home) == before
    assert (home / "pipe").is_fifo()


def test_one_file_replaces_a_file_by_force_alone(one_file: Download, home: Path) -> None:
    os.mkfifo(home / "pipe")
    one_file("notes.txt", force=True)
    assert (home / "notes.txt").read_bytes() in {b"a tar file", b"{}"}
    with pytest.raises(client.BadInput, match="folder"):
        one_file("other-model", force=True)
    with pytest.raises(client.BadInput, match="device"):
        one_file("pipe", force=True)
    before = everything(home)
    one_file("dangling", force=True)
    assert set(everything(home)) == set(before)
    assert not (home / "nowhere").exists()


@pytest.fixture
def unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one that cannot be read two levels below, not even by root's tests."""
    (tmp_path / "output" / "sub" / "closed").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    before = os.geteuid()
    tmp_path.chmod(0o755)
    Path("output/sub/closed").chmod(0)
    if before == 0:
        os.seteuid(65534)
    yield Path("output")
    os.seteuid(before)
    Path("output/sub/closed").chmod(0o700)


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder that cannot be written into, not even by root's tests, which become another user for the time."""
    tmp_path.chmod(0o755)
    (tmp_path / "locked").mkdir(mode=0o555)
    monkeypatch.chdir(tmp_path)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield "locked"
    os.seteuid(before)


def test_a_read_only_folder_is_named_as_the_user_gave_it(kind: str, read_only: str) -> None:
    with pytest.raises(PermissionError) as refused:
        fetch(kind, SMALL, Path(read_only))
    assert refused.value.filename == read_only
    with pytest.raises(PermissionError) as refused:
        ask(kind, api(SMALL), "export_checkpoint", "j1", "final", Path(read_only, "x.tar"))
    assert refused.value.filename == f"{read_only}/x.tar"


def test_a_subfolder_that_cannot_be_read_is_the_user_s(kind: str, unreadable: Path) -> None:
    with pytest.raises(
        client.BadInput, match=r"^output contains other files than a gigpo checkpoint: sub; name another"
    ):
        fetch(kind, SMALL, unreadable)
