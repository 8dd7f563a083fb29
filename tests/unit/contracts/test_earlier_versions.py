"""Documents of an earlier version are read; those of a newer one are refused with the side to upgrade."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from services.api.artifacts.rollouts import RolloutArchive, RolloutFilter
from services.api.rest.problems import Problem
from services.contracts import messages
from services.contracts.archive import encoded_groups, packed, read_archive
from services.contracts.environment import EnvironmentInfo
from services.contracts.messages import (
    CompleteGroup,
    ContractError,
    Episode,
    GenerateReply,
    GenerateRequest,
    JobEvent,
    Message,
    OpenedGroup,
    ScoredGroup,
    decode,
    encode,
)
from services.contracts.origin import TakenOver
from services.contracts.policy import PolicyAck, PolicyManifest, PolicyRefusal, ReplicaStatus
from services.trainer.groups.payloads import payload_of
from tests.earlier_versions import FOLDERS, IDS

KINDS: tuple[type[Message], ...] = (
    OpenedGroup, Episode, CompleteGroup, ScoredGroup, GenerateRequest, GenerateReply, JobEvent,
)  # fmt: skip
GROUP = "t00000003"
every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=IDS)


def stored(folder: Path, kind: type[Message]) -> bytes:
    return (folder / "messages" / f"{kind.__name__}.msgpack").read_bytes()


def test_every_kind_is_among_the_stored_ones_and_writes_its_newest_version() -> None:
    assert set(KINDS) == {kind for kind in Message.__subclasses__() if kind.__module__ == messages.__name__}
    for kind in KINDS:
        defaults = {field.name: field.default for field in msgspec.structs.fields(kind)}
        assert defaults["schema"] == messages.newest(kind)


@every_folder
@pytest.mark.parametrize("kind", KINDS)
def test_a_message_of_every_earlier_version_is_read(folder: Path, kind: type[Message]) -> None:
    message = decode(stored(folder, kind), kind)
    assert message.schema == messages.newest(kind)
    assert decode(encode(message), kind) == message


def assert_kept(stored: Any, written: Any) -> None:
    """Whatever was stored is still written under the same name; more fields may stand beside it."""
    if isinstance(stored, dict):
        for name in stored.keys() - {"schema"}:
            assert_kept(stored[name], written[name])
    elif isinstance(stored, list):
        for one, other in zip(stored, written, strict=True):
            assert_kept(one, other)
    else:
        assert stored == written


@every_folder
@pytest.mark.parametrize("kind", KINDS)
def test_no_field_of_a_kind_goes_or_changes_without_a_new_version(folder: Path, kind: type[Message]) -> None:
    """So a reader of the same version takes today's messages, whichever release it is of."""
    fields = msgspec.msgpack.decode(stored(folder, kind))
    written = msgspec.msgpack.decode(encode(decode(stored(folder, kind), kind)))
    assert next(iter(written)) == "schema"
    if fields["schema"] == messages.newest(kind):
        assert_kept(fields, written)


def sampled(folder: Path) -> list[Any]:
    """The sampled answers that `tests/data/write.py` gave, from every message that carries one."""
    step = decode(stored(folder, Episode), Episode).steps[0]
    return [step, decode(stored(folder, GenerateReply), GenerateReply).results[0]]


@every_folder
def test_the_tokens_of_an_earlier_version_are_what_was_sampled(folder: Path) -> None:
    for one in sampled(folder):
        assert (one.response_ids, one.versions) == (b"\5\0\0\0\1\0\0\0", b"\2\0\0\0\3\0\0\0")
        assert (one.logprobs, one.finish_reason) == (b"\0\0\0\xbf\0\0\x80\xbe", "stop")


@every_folder
def test_an_archive_of_every_earlier_version_is_shown(folder: Path) -> None:
    page = RolloutArchive().page(folder, RolloutFilter(), offset=0, limit=9)
    detail = RolloutArchive().detail(folder, GROUP)
    assert [(one.group_id, one.batch, one.won, one.steps, one.return_mean) for one in page.rollouts] == [
        (GROUP, 3, 1, [2, 2], 0.25)
    ]
    steps = [step for played in detail.played for step in played.steps]
    assert [(one.advantage, one.step_return, one.step_group) for one in steps] == [
        (0.0, 3.0, 0), (1.0, 4.0, 1), (2.0, 5.0, 0), (3.0, 6.0, 2)
    ]  # fmt: skip
    assert [(one.action, one.finish_reason, one.versions, one.logprob_sum) for one in steps[:2]] == [
        ("go 0", "stop", [2, 3], -0.75), ("go 1", "length", [2, 3], -0.75)
    ]  # fmt: skip
    scores, episodes = encoded_groups(folder / "rollouts" / "batch-00003.msgpack.zlib")[0]
    assert payload_of(GROUP, scores, episodes).sampled_tokens == 8


def worth_more(fields: dict[str, Any]) -> dict[str, Any]:
    """An upgrade that renames a field, changes a meaning and reaches into a part."""
    steps = [{**step, "reward": 100 * step["reward"]} for step in fields["steps"]]
    return {**fields, "steps": steps, "task": fields["task"].upper()}


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tomorrow's code: version 3 of `Episode`, 2 of `ScoredGroup` and `CompleteGroup`."""
    monkeypatch.setitem(messages.UPGRADES, Episode, (worth_more, lambda fields: {**fields, "worker": "upgraded"}))
    monkeypatch.setitem(messages.UPGRADES, ScoredGroup, (lambda fields: {**fields, "cursor": fields["cursor"] + 40},))
    monkeypatch.setitem(messages.UPGRADES, CompleteGroup, (lambda fields: {"cursor": 0, **fields},))


@pytest.mark.usefixtures("raised")
def test_raising_a_kind_leaves_old_archives_readable_through_every_reader() -> None:
    folder = FOLDERS[0]
    brief = RolloutArchive().page(folder, RolloutFilter(), offset=0, limit=9).rollouts[0]
    assert (brief.task, brief.cursor, brief.return_mean) == ("PUT APPLE IN BOX", 43, 25.0)
    played = RolloutArchive().detail(folder, GROUP).played
    assert [step.reward for step in played[0].steps] == [0.0, 25.0]
    ((scored, episodes),) = read_archive(folder / "rollouts" / "batch-00003.msgpack.zlib")
    assert (scored.schema, scored.cursor, {one.schema for one in episodes}) == (2, 43, {3})
    assert {one.worker for one in episodes} == {"upgraded"}


@pytest.mark.usefixtures("raised")
def test_a_version_between_the_oldest_and_the_newest_takes_only_the_upgrades_behind_it() -> None:
    second = msgspec.msgpack.decode(stored(FOLDERS[0], Episode)) | {"schema": 2}
    episode = decode(msgspec.msgpack.encode(second), Episode)
    assert (episode.task, episode.worker, episode.schema) == ("put apple in box", "upgraded", 3)


@pytest.mark.usefixtures("raised")
def test_an_earlier_message_that_lacks_what_is_wanted_today_is_upgraded_too() -> None:
    """Decoding it as it is fails; only its upgrade knows the field that came later."""
    first = {"schema": 1, "job_id": "j", "group_id": "g", "purpose": "train"}
    assert decode(msgspec.msgpack.encode(first), CompleteGroup).cursor == 0


@pytest.mark.usefixtures("raised")
@pytest.mark.parametrize("fields", [{}, {"steps": 7}, {"steps": [{}]}, {"steps": [], "task": None}])
def test_an_earlier_message_that_its_upgrade_cannot_take_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ContractError, match="want a Episode of schema 1, got bytes that cannot be decoded"):
        decode(msgspec.msgpack.encode({"schema": 1, **fields}), Episode)


@pytest.mark.usefixtures("raised")
@pytest.mark.parametrize("kind", KINDS)
def test_a_newer_message_is_refused_with_the_side_to_upgrade(kind: type[Message]) -> None:
    known = messages.newest(kind)
    unknown = msgspec.msgpack.encode({"schema": known + 1, "of": "tomorrow"})
    whole = encode(msgspec.structs.replace(decode(stored(FOLDERS[0], kind), kind), schema=known + 1))
    sentence = (
        f"^{kind.__name__} has schema {known + 1}: a newer release wrote it, this service reads up to schema {known}; "
        "upgrade this service$"
    )
    for payload in (unknown, whole):
        with pytest.raises(ContractError, match=sentence):
            decode(payload, kind)


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_never_was_is_refused(version: int) -> None:
    payload = encode(CompleteGroup(schema=version, job_id="j", group_id="g", purpose="train", cursor=0))
    with pytest.raises(ContractError, match=f"want a schema from 1 to 1, got {version}"):
        decode(payload, CompleteGroup)


def write_archive(folder: Path, content: object) -> Path:
    path = folder / "rollouts" / "batch-00003.msgpack.zlib"
    path.parent.mkdir()
    path.write_bytes(zlib.compress(msgspec.msgpack.encode(content)))
    return path


def test_a_newer_archive_is_refused_with_the_side_to_upgrade(tmp_path: Path) -> None:
    path = write_archive(tmp_path, {"archive": 2, "groups": []})
    sentence = f"archive {path.name} has schema 2: a newer release wrote it, .* up to schema 1; upgrade this service"
    with pytest.raises(ContractError, match=sentence):
        read_archive(path)
    with pytest.raises(Problem, match="upgrade this service") as refused:
        RolloutArchive().page(tmp_path, RolloutFilter(), offset=0, limit=9)
    assert refused.value.status == 500


@pytest.mark.parametrize("content", [{}, {"archive": "x"}, {"archive": 0}, 7, [1], [["a"]]])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ContractError, match="archive batch-00003"):
        read_archive(write_archive(tmp_path, content))


@every_folder
def test_the_archive_is_written_as_before(folder: Path) -> None:
    path = folder / "rollouts" / "batch-00003.msgpack.zlib"
    assert zlib.decompress(packed(encoded_groups(path))) == zlib.decompress(path.read_bytes())


DOCUMENTS: tuple[tuple[type[BaseModel], dict[str, Any]], ...] = (
    (
        PolicyManifest,
        {
            "job_id": "j", "version": 1, "base": "/b", "base_sha": "ff", "path": "/p", "files": {}, "engine": "vllm",
            "max_model_len": 8, "probe": {"prompts": [], "response_ids": [], "logprobs": [], "added": 1},
        },
    ),
    (PolicyAck, {"replica": "r", "version": 1, "fingerprint": "f", "engine": "e", "load_s": 1.0, "pause_s": 0.0}),
    (PolicyRefusal, {"replica": "r", "version": 1, "reason": "no", "final": True}),
    (ReplicaStatus, {"replica": "r", "job_id": None, "version": -1, "engine": "e", "state": "idle"}),
    (EnvironmentInfo, {"id": "grid/v1"}),
    (TakenOver, {"job_id": "j", "checkpoint": "b000001", "taken_unix_s": 1.0}),
)  # fmt: skip


@pytest.mark.parametrize(("kind", "fields"), DOCUMENTS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_document_between_services_may_carry_a_field_that_only_a_newer_release_knows(
    kind: type[BaseModel], fields: dict[str, Any]
) -> None:
    newer = {**fields, "added": {"later": 1}}
    assert "added" not in kind.model_validate_json(json.dumps(newer)).model_dump_json()
