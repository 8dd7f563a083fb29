"""Files that a job names: found beside the job file or where the command runs, and the job that suits them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gigpo.client.document import checked, read_document, with_flags
from gigpo.client.errors import BadInput


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a subfolder `jobs`; both hold a reward and prompts."""
    for folder in (tmp_path, tmp_path / "jobs"):
        folder.mkdir(exist_ok=True)
        (folder / "my_reward.py").touch()
        (folder / "mine.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_lie_beside_the_job_file(here: Path) -> None:
    text = "rewards: {reward_funcs: [accuracy, my_reward.py:score]}\n"
    text += "environment: {environment_kwargs: {data: mine.jsonl}}\n"
    (here / "jobs" / "job.yaml").write_text(text)
    document = read_document(Path("jobs/job.yaml"))
    assert document["rewards"] == {"reward_funcs": ["accuracy", f"{here}/jobs/my_reward.py:score"]}
    assert document["environment"] == {"environment_kwargs": {"data": f"{here}/jobs/mine.jsonl"}}
    changed = with_flags(document, {"reward_funcs": "my_reward.py:score"})
    assert changed["rewards"] == {"reward_funcs": [f"{here}/my_reward.py:score"]}


@pytest.mark.parametrize("name", ["mine.csv", "mine.parquet", "mine.json", "mine.jsonl.gz", "mine.arrow"])
def test_every_kind_of_data_file_is_found_beside_the_job_file(here: Path, name: str) -> None:
    (here / "jobs" / name).touch()
    (here / "jobs" / "job.yaml").write_text(f"environment: {{environment_kwargs: {{data: {name}}}}}\n")
    assert read_document(here / "jobs" / "job.yaml")["environment"] == {
        "environment_kwargs": {"data": f"{here}/jobs/{name}"}
    }


def test_the_files_of_several_data_sets_are_found(here: Path) -> None:
    text = "environment: {environment_kwargs: {sets: [{data: mine.jsonl, weight: 2}, {data: math}]}}\n"
    (here / "jobs" / "job.yaml").write_text(text)
    sets = [{"data": f"{here}/jobs/mine.jsonl", "weight": 2}, {"data": "math"}]
    assert read_document(here / "jobs" / "job.yaml")["environment"] == {"environment_kwargs": {"sets": sets}}


def test_what_is_installed_kept_or_below_the_data_root_is_left_alone(here: Path) -> None:
    kept = f"file:{'0' * 64}/mine.jsonl"
    for data in ("math", kept):
        (here / "job.yaml").write_text(f"environment: {{environment_kwargs: {{data: '{data}'}}}}\n")
        assert read_document(here / "job.yaml")["environment"] == {"environment_kwargs": {"data": data}}


def test_flags_that_name_prompts_choose_a_job_of_prompts(here: Path) -> None:
    for values in ({"environment": "prompts"}, {"dataset": "mine.jsonl"}, {"reward_funcs": "accuracy"}):
        spec = checked(with_flags(read_document(None, values), values))
        assert (spec.environment.environment, spec.environment.max_turns) == ("prompts", 1)
    dataset = with_flags(read_document(None, {"dataset": "."}), {"dataset": "."})
    assert checked(dataset).environment.environment_kwargs == {"data": str(here)}
    assert checked(read_document(None, {"environment": "grid"})).environment.environment == "grid"


def test_a_dataset_takes_the_place_of_other_prompts(here: Path) -> None:
    given = {"environment": {"environment_kwargs": {"rows": [], "split_dataset_ratio": 0.5}}}
    changed = with_flags(given, {"dataset": "mine.jsonl"})
    assert changed["environment"] == {"environment_kwargs": {"split_dataset_ratio": 0.5, "data": f"{here}/mine.jsonl"}}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"dataset": "none.jsonl"}, "--dataset: no such file: none.jsonl"),
        ({"reward_funcs": "none.py:score"}, "rewards.reward_funcs: no such file: none.py"),
        ({"reward_funcs": "my_reward.py"}, "rewards.reward_funcs: want the function too, my_reward.py:FUNCTION"),
    ],
)
def test_a_file_that_is_not_there_is_a_sentence(here: Path, values: dict[str, str], sentence: str) -> None:
    with pytest.raises(BadInput) as refused:
        with_flags({}, values)
    assert str(refused.value) == sentence


def test_the_files_of_a_mixture_are_found(here: Path) -> None:
    text = "environment: {mixture: [{member: a, environment_kwargs: {data: mine.jsonl}}, {member: b}],\n"
    text += " environment_rows: [{data: mine.jsonl}]}\n"
    (here / "jobs" / "job.yaml").write_text(text)
    found = {"data": f"{here}/jobs/mine.jsonl"}
    assert read_document(here / "jobs" / "job.yaml")["environment"] == {
        "mixture": [{"member": "a", "environment_kwargs": found}, {"member": "b"}],
        "environment_rows": [found],
    }
