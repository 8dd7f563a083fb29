"""Files of users at the door: taken without keys, with keys only where the operator allows them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from services.contracts.user_files import files_root
from tests.integration.api.api_process import ApiProcess
from tests.integration.api.keyed_api import KeyedApi, keyed_api


@pytest.fixture
def job(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "my_reward.py").write_text("def score(completion):\n    return 1\n")
    (tmp_path / "mine.jsonl").write_text('{"prompt": "say a"}\n')
    return {
        "model": {"scratch": {}},
        "environment": {"environment_kwargs": {"data": str(tmp_path / "mine.jsonl")}},
        "rollout": {"max_completion_length": 6},
    }


def fields(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 422, answer.text
    return [error["field"] for error in answer.json()["errors"]]


def test_without_keys_a_file_is_kept_by_its_content(
    http: httpx.Client, api: ApiProcess, job: dict[str, object]
) -> None:
    answer = http.post("/v1/jobs?dry_run=true", json=job)
    assert fields(answer) == ["environment.environment_kwargs.data"]  # the environment of this test knows no data
    (kept,) = files_root(api.data_dir).glob("*/mine.jsonl")
    assert kept.read_text() == '{"prompt": "say a"}\n'


def test_with_keys_nothing_is_read(keyed: KeyedApi, job: dict[str, object]) -> None:
    refused = keyed.admin.post("/v1/jobs", json=job)
    assert "files of users are not taken here (API_USER_FILES)" in refused.json()["errors"][0]["message"]
    assert not files_root(keyed.api.data_dir).exists()


def test_with_keys_an_operator_may_allow_files_in_the_model_roots(
    redis_server: str, env_address: str, tmp_path: Path, job: dict[str, object]
) -> None:
    roots = {"API_USER_FILES": "true", "API_MODEL_ROOTS": f'["{tmp_path / "open"}"]'}
    (tmp_path / "open").mkdir()
    with keyed_api(tmp_path / "data", redis_server, env_address, **roots) as keyed:
        refused = keyed.admin.post("/v1/jobs", json=job).json()["errors"][0]
        assert "want a path in one of the model roots" in refused["message"]
        (tmp_path / "mine.jsonl").rename(tmp_path / "open" / "mine.jsonl")
        inside = {"environment": {"environment_kwargs": {"data": str(tmp_path / "open" / "mine.jsonl")}}}
        keyed.admin.post("/v1/jobs?dry_run=true", json={**job, **inside})
        assert [path.name for path in files_root(keyed.api.data_dir).glob("*/*")] == ["mine.jsonl"]
