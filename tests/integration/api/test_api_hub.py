"""Models of the hub at the door: pinned to a commit where the operator allows them, else told how to get."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.contracts.job import ScratchModel
from services.trainer.learner.scratch import build_scratch
from tests.hub_server import COMMIT, Hub, hub_server
from tests.integration.api.api_process import running_api

NAME = "Tiny/Model-1"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub") / "model"
    build_scratch(ScratchModel(max_position_embeddings=640), ["a", "b"], 0, folder)
    with hub_server(NAME, folder, modeling_py=b"raise SystemExit") as served:
        yield served


@pytest.fixture(scope="module")
def allowed(
    redis_server: str, env_address: str, tmp_path_factory: pytest.TempPathFactory, hub: Hub
) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("data")
    settings = {"API_HUB_MODELS": "true", "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home")}
    with (
        running_api(folder, redis_server, env_address, **settings) as api,
        httpx.Client(base_url=api.url, timeout=30) as http,
    ):
        yield http


def refusal(http: httpx.Client, model: object) -> str:
    answer = http.post("/v1/jobs", json={"model": model})
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    return f"{error['field']}: {error['message']}"


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_job_holds_the_commit_that_the_name_meant(allowed: httpx.Client, revision: str | None) -> None:
    model = {"model": NAME, **({"model_revision": revision} if revision else {})}
    told = allowed.post("/v1/jobs?dry_run=true", json={"model": model}).json()
    assert (told["spec"]["model"]["model"], told["spec"]["model"]["model_revision"]) == (NAME, COMMIT)
    assert told["estimates"]["parameters"] > 0
    job = allowed.post("/v1/jobs", json={"model": model}).json()
    assert job["spec"]["model"]["model_revision"] == COMMIT


def test_a_model_on_the_hub_must_be_long_enough_for_the_job(allowed: httpx.Client) -> None:
    answer = allowed.post("/v1/jobs", json={"model": {"model": NAME}, "rollout": {"max_completion_length": 513}})
    assert answer.json()["errors"][0]["message"] == (
        "config.json: max_position_embeddings: want at least 641 (max_prompt_tokens 128 and max_completion_length 513)"
        ", got 640"
    )


def test_what_the_tokenizer_of_a_model_on_the_hub_cannot_do_is_said_at_submission(allowed: httpx.Client) -> None:
    document = {"model": {"model": NAME}, "environment": {"chat_template_kwargs": {"enable_thinking": False}}}
    answer = allowed.post("/v1/jobs", json=document)
    assert answer.json()["errors"] == [
        {
            "field": "model.model",
            "message": "chat_template_kwargs: want a tokenizer with a chat template, got enable_thinking without one",
        }
    ]


def test_an_adapter_or_a_missing_shard_on_the_hub_is_said(
    redis_server: str, env_address: str, tmp_path: Path, hub: Hub
) -> None:
    folder = tmp_path / "adapted"
    folder.mkdir()
    for name, content in hub.files.items():
        if "/" not in name:
            (folder / name).write_bytes(content)
    index = b'{"weight_map": {"x": "model-2.safetensors"}}'
    said = {
        "adapter_config.json": "holds adapter_config.json; want a whole model without an adapter beside it",
        "model.safetensors.index.json": "lacks model-2.safetensors, which its model.safetensors.index.json names",
    }
    for name, sentence in said.items():
        (folder / name).write_bytes(index)
        with hub_server("Odd/Model", folder) as odd:
            settings = {"API_HUB_MODELS": "true", "HF_ENDPOINT": odd.url, "HF_HOME": str(tmp_path / "home")}
            with (
                running_api(tmp_path / "data", redis_server, env_address, **settings) as api,
                httpx.Client(base_url=api.url, timeout=60) as http,
            ):
                assert refusal(http, {"model": "Odd/Model"}) == f"model.model: Odd/Model on the hub {sentence}"
        (folder / name).unlink()


def test_what_the_hub_does_not_have_is_said(allowed: httpx.Client, hub: Hub) -> None:
    assert refusal(allowed, {"model": "Tiny/None"}) == (
        f"model.model: no such model on the hub ({hub.url}), and no such folder: Tiny/None"
    )
    assert refusal(allowed, {"model": NAME, "model_revision": "v2"}) == (
        f"model.model: {NAME} has no revision v2 on the hub"
    )


def test_what_is_no_model_in_safetensors_is_refused(
    redis_server: str, env_address: str, tmp_path: Path, hub: Hub
) -> None:
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"")
    with hub_server("Old/Pickle", folder) as old:
        settings = {"API_HUB_MODELS": "true", "HF_ENDPOINT": old.url, "HF_HOME": str(tmp_path / "home")}
        with (
            running_api(tmp_path / "data", redis_server, env_address, **settings) as api,
            httpx.Client(base_url=api.url, timeout=30) as http,
        ):
            assert refusal(http, {"model": "Old/Pickle"}) == (
                "model.model: Old/Pickle on the hub lacks tokenizer.json, tokenizer_config.json, *.safetensors; want a "
                "model with safetensors"
            )


def test_where_the_operator_does_not_allow_it_the_answer_says_how_to_get_the_model(http: httpx.Client) -> None:
    assert refusal(http, {"model": "Qwen/Qwen2.5-0.5B-Instruct"}) == (
        "model.model: Qwen/Qwen2.5-0.5B-Instruct is no folder that a job may take, and names on the Hugging Face hub "
        "are not fetched here: `hf download Qwen/Qwen2.5-0.5B-Instruct --local-dir DIR` fetches it, then want model: "
        "DIR; or start the stack "
        "with API_HUB_MODELS=true"
    )


def test_a_hub_that_does_not_answer_is_said(redis_server: str, env_address: str, tmp_path: Path) -> None:
    settings = {"API_HUB_MODELS": "true", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "home")}
    with (
        running_api(tmp_path / "data", redis_server, env_address, **settings) as api,
        httpx.Client(base_url=api.url, timeout=60) as http,
    ):
        said = refusal(http, {"model": NAME})
    assert said.startswith(f"model.model: the hub (http://127.0.0.1:9) does not give {NAME}: ")
    assert said.endswith(f"; `hf download {NAME} --local-dir DIR` fetches it, then want model: DIR")
