"""Files of the operator: which ones a job may name, and what is said of those that are spoilt."""

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from gigpo.env import progress
from gigpo.env.data import JSON_S_PER_BYTE, DataFolder, checked, one_file, read_json, read_jsonl
from gigpo.env.environment import Environment, EnvironmentKwargs, KwargsError, Observation, Outcome
from services.env.workers.registry import valid_kwargs


class ReaderKwargs(EnvironmentKwargs):
    data: DataFolder | None = None


class Reader(Environment):
    """Wants a folder."""

    Kwargs = ReaderKwargs

    def reset(self, seed: int, split: str) -> Observation:
        raise NotImplementedError

    def step(self, action: str) -> Outcome:
        raise NotImplementedError


def named(folder: str, root: Path | None) -> ReaderKwargs:
    kwargs = valid_kwargs(Reader, json.dumps({"data": folder}), str(root) if root else None)
    assert isinstance(kwargs, ReaderKwargs)
    return kwargs


def test_a_folder_below_the_root_is_given_as_an_absolute_path(tmp_path):
    (tmp_path / "shops" / "mine").mkdir(parents=True)
    assert named("shops/mine", tmp_path).data == tmp_path / "shops" / "mine"
    assert named("shops/../shops", tmp_path).data == tmp_path / "shops"


@pytest.mark.parametrize("folder", ["..", "../other", "/etc", "shops/../../other", "link"])
def test_nothing_outside_the_root_can_be_named(folder, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "other").mkdir()
    (root / "link").symlink_to(tmp_path / "other")
    with pytest.raises(KwargsError, match=r"data: .*below the service's data root"):
        named(folder, root)


def test_a_missing_folder_and_a_missing_root_are_told_apart(tmp_path):
    with pytest.raises(KwargsError, match=r"data: .*no such folder"):
        named("nothing", tmp_path)
    with pytest.raises(KwargsError, match=r"data: .*ENV_SERVICE_DATA_ROOT"):
        named("nothing", None)
    assert valid_kwargs(Reader, "{}") == ReaderKwargs()


def test_a_file_is_found_only_where_it_is_the_one(tmp_path):
    with pytest.raises(KwargsError, match=r"want one file a\*.json in .*, got none"):
        one_file(tmp_path, "a*.json")
    (tmp_path / "a.json").write_text("[1]")
    assert read_json(one_file(tmp_path, "a*.json")) == [1]
    (tmp_path / "ab.json").write_text("")
    with pytest.raises(KwargsError, match=r"got a.json, ab.json"):
        one_file(tmp_path, "a*.json")


def test_what_is_no_json_is_named_with_file_and_line(tmp_path):
    spoilt = tmp_path / "spoilt.jsonl"
    spoilt.write_bytes(b'{"a": 1}\n\n{"a": \n\xff\n')
    lines = read_jsonl(spoilt)
    assert next(lines) == ("spoilt.jsonl, line 1", {"a": 1})
    with pytest.raises(KwargsError, match=r"data: spoilt.jsonl, line 3 is no JSON"):
        next(lines)
    with pytest.raises(KwargsError, match=r"data: spoilt.jsonl is no JSON"):
        read_json(spoilt)


def test_a_record_of_the_wrong_shape_is_named_with_its_field():
    adapter = TypeAdapter(dict[str, int])
    assert checked(adapter, {"a": 1}, "x.json, record 0") == {"a": 1}
    with pytest.raises(KwargsError, match=r"data: x.json, record 7: a: .*got 'many'"):
        checked(adapter, {"a": "many"}, "x.json, record 7")


def test_every_part_of_long_work_shows_life():
    shown: list[int] = []
    progress.set_reporter(lambda _: shown.append(1))
    try:
        assert list(progress.report_each("abc")) == ["a", "b", "c"]
    finally:
        progress.set_reporter(lambda _: None)
    assert len(shown) == 3
    assert list(progress.report_each([1, 2])) == [1, 2]
    assert len(shown) == 3


def test_a_file_of_json_has_time_by_its_size(tmp_path):
    shown: list[float] = []
    (tmp_path / "x.json").write_text(json.dumps(["word"] * 1000))
    progress.set_reporter(shown.append)
    try:
        assert len(read_json(tmp_path / "x.json")) == 1000
        (tmp_path / "x.json").write_text("[")
        with pytest.raises(KwargsError):
            read_json(tmp_path / "x.json")
    finally:
        progress.set_reporter(lambda _: None)
    assert shown == [8000 * JSON_S_PER_BYTE, 0.0, JSON_S_PER_BYTE, 0.0]
