"""Files of users at the door: copied by content, from where it is allowed, and their words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from services.api.jobs.user_files import FileProblem, names_files, own_words, with_kept_files
from services.contracts.job import JobSpec, parse_spec
from services.contracts.user_files import files_root, referenced_file, reward_label, split_function

ROWS = [{"prompt": "say a", "solution": 7}, {"messages": [{"role": "user", "content": "b c"}], "choices": ["d e"]}]


def spec(functions: list[str], **kwargs: Any) -> JobSpec:
    return parse_spec(
        {
            "model": {"scratch": {}},
            "environment": {"use_gym_env": False, "environment_kwargs": kwargs},
            "rewards": {"reward_funcs": functions},
            "rollout": {"max_completion_length": 6},
        }
    )


def words_of(wanted: JobSpec, folder: Path) -> list[str]:
    found = own_words(wanted, folder)
    assert found is not None
    return found.words


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_reward.py").write_text("def score(completion):\n    return 1\n")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "no json\n")
    return folder


def test_files_are_kept_by_their_content(mine: Path, tmp_path: Path) -> None:
    wanted = spec(["accuracy", f"{mine}/my_reward.py:score"], data=str(mine / "rows.jsonl"))
    assert names_files(wanted) == ["rewards.reward_funcs", "environment.environment_kwargs.data"]
    kept = with_kept_files(wanted, tmp_path, None)
    accuracy, function = kept.rewards.reward_funcs
    sha, name = referenced_file((split_function(function) or ("", ""))[0]) or ("", "")
    assert (accuracy, name, reward_label(function)) == ("accuracy", "my_reward.py", "my_reward.score")
    assert (files_root(tmp_path) / sha / name).read_bytes() == (mine / "my_reward.py").read_bytes()
    assert with_kept_files(wanted, tmp_path, None) == kept  # the same content again
    assert with_kept_files(kept, tmp_path, None) == kept  # a job that is submitted again
    (mine / "my_reward.py").write_text("def score(completion):\n    return 2\n")
    assert with_kept_files(wanted, tmp_path, None).rewards.reward_funcs != kept.rewards.reward_funcs
    assert not list(files_root(tmp_path).glob(".arriving-*"))
    assert words_of(kept, tmp_path) == ["7", "a", "b", "c", "d", "e", "say"]


def test_a_folder_is_kept_as_a_whole(mine: Path, tmp_path: Path) -> None:
    (mine / "sub").mkdir()
    kept = with_kept_files(spec(["accuracy"], data=str(mine)), tmp_path, None)
    sha, name = referenced_file(str(kept.environment.environment_kwargs["data"])) or ("", "")
    assert name == "mine"
    assert {path.name for path in (files_root(tmp_path) / sha).iterdir()} == {"my_reward.py", "rows.jsonl"}


def test_words_are_those_of_every_kind_of_file_and_of_the_columns_that_are_asked(mine: Path, tmp_path: Path) -> None:
    (mine / "rows.jsonl").unlink()
    (mine / "data").mkdir()
    (mine / "data" / "train.csv").write_text("question,answer,note\nsay a,7,no\n")
    (mine / "data" / "test.json").write_text('[{"question": "say b", "answer": 8}]')
    kept = with_kept_files(spec(["accuracy"], data=str(mine)), tmp_path, None)
    assert words_of(kept, tmp_path) == ["7", "8", "a", "b", "say"]
    named = with_kept_files(spec(["accuracy"], data=str(mine), columns={"solution": "note"}), tmp_path, None)
    assert words_of(named, tmp_path) == ["a", "no", "say"]


def test_several_data_sets_are_kept_one_by_one(mine: Path, tmp_path: Path) -> None:
    (mine / "more.csv").write_text("q,a\nsay z,9\n")
    sets = [
        {"data": str(mine / "rows.jsonl")},
        {"data": str(mine / "more.csv"), "columns": {"prompt": "q", "solution": "a"}},
    ]
    wanted = spec(["accuracy"], sets=sets)
    assert names_files(wanted) == ["environment.environment_kwargs.data"]
    kept = with_kept_files(wanted, tmp_path, None)
    assert [referenced_file(one["data"])[1] for one in kept.environment.environment_kwargs["sets"]] == [
        "rows.jsonl",
        "more.csv",
    ]
    assert words_of(kept, tmp_path) == ["7", "9", "a", "b", "c", "d", "e", "say", "z"]
    with pytest.raises(FileProblem) as refused:
        with_kept_files(spec(["accuracy"], sets=[{"data": "/no/such"}]), tmp_path, None)
    assert refused.value.problem[0] == "environment.environment_kwargs.sets.0.data"


def test_what_is_installed_or_below_the_data_root_is_left_alone(tmp_path: Path) -> None:
    wanted = spec(["accuracy", "plugin"], data="math")
    assert names_files(wanted) == []
    with pytest.raises(FileProblem, match="needs a file of yours here"):
        own_words(wanted, tmp_path)
    assert own_words(spec(["accuracy"]), tmp_path) is None
    assert words_of(spec(["accuracy"], rows=ROWS), tmp_path) == ["7", "a", "b", "c", "d", "e", "say"]


def test_what_cannot_be_taken_is_a_sentence(mine: Path, tmp_path: Path) -> None:
    os.mkfifo(mine / "pipe.py")
    (tmp_path / "empty").mkdir()
    (mine / "link.py").symlink_to("/etc/passwd")
    for functions, kwargs, field, words in [
        (["my_reward.py:score"], {}, "rewards.reward_funcs", "want an absolute path on the machine of the API"),
        ([f"{mine}/none.py:score"], {}, "rewards.reward_funcs", f"cannot be read: {mine}/none.py: No such file"),
        ([f"{mine}/pipe.py:score"], {}, "rewards.reward_funcs", f"want a file, this is none: {mine}/pipe.py"),
        (["accuracy"], {"data": str(tmp_path / "empty")}, "environment.environment_kwargs.data", "holds no files"),
        ([f"file:{'0' * 64}/my_reward.py:score"], {}, "rewards.reward_funcs", "no file of this content is kept here"),
    ]:
        with pytest.raises(FileProblem) as refused:
            with_kept_files(spec(functions, **kwargs), tmp_path, None)
        assert refused.value.problem[0] == field
        assert words in refused.value.problem[1]
    for name in ("link.py", "../data.py"):
        with pytest.raises(FileProblem, match="want a path in one of the model roots"):
            with_kept_files(spec([f"{mine}/{name}:score"]), tmp_path, [mine])


def test_too_many_words_want_a_pretrained_model(tmp_path: Path) -> None:
    rows = [{"prompt": " ".join(f"w{number}" for number in range(at, at + 100))} for at in range(0, 20_100, 100)]
    with pytest.raises(FileProblem, match="20,100 different words, a policy from scratch learns at most 20,000"):
        own_words(spec(["accuracy"], rows=rows), tmp_path)


def test_a_policy_from_scratch_can_say_what_a_function_of_ones_own_reads(tmp_path: Path) -> None:
    rows = [{"prompt": "sky", "target": "deep blue", "more": {"colours": ["azure", 7], "kind": True, "none": None}}]
    assert words_of(spec(["accuracy"], rows=rows), tmp_path) == ["sky"]
    assert words_of(spec(["kindness"], rows=rows), tmp_path) == ["7", "azure", "blue", "deep", "sky"]
    assert words_of(spec(["accuracy", "file:ab/my.py:score"], rows=rows), tmp_path) == words_of(
        spec(["kindness"], rows=rows), tmp_path
    )


def test_a_column_of_too_many_words_is_left_out_and_named(tmp_path: Path) -> None:
    rows = [{"prompt": "sky", "target": "blue", "story": " ".join(f"w{at}" for at in range(30_000))}]
    found = own_words(spec(["kindness"], rows=rows), tmp_path)
    assert found is not None
    assert found.words == ["blue", "sky"]
    (warning,) = found.warnings
    assert warning.startswith("model.scratch: the column story has too many words for its tokenizer of 20,000")


def test_the_files_of_a_mixture_are_kept(mine: Path, tmp_path: Path) -> None:
    data = str(mine / "rows.jsonl")
    members = [
        {"member": "a", "environment_kwargs": {"data": data}},
        {"member": "b", "environment_rows": [{"data": data}]},
    ]
    wanted = spec(["accuracy"])
    document = wanted.model_dump(mode="json", exclude_unset=True)
    document["environment"]["mixture"] = members
    mixed = parse_spec(document)
    assert names_files(mixed) == ["environment.environment_kwargs.data"]
    first, second = with_kept_files(mixed, tmp_path, None).environment.mixture
    assert (first.environment_kwargs or {})["data"] == (second.environment_rows or [{}])[0]["data"]
    assert referenced_file(str((first.environment_kwargs or {})["data"])) is not None
    with pytest.raises(FileProblem) as refused:
        with_kept_files(mixed, tmp_path, [tmp_path / "elsewhere"])
    assert refused.value.problem[0] == "environment.mixture.0.environment_kwargs.data"
