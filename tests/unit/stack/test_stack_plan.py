"""Which services a stack has, and with which settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.stack.plan import stack_stages
from services.stack.settings import Settings


def settings(folder: Path, **given: object) -> Settings:
    return Settings.model_validate({"data_dir": folder, "api_port": 0, **given})


def test_environments_come_before_those_who_need_their_address(tmp_path: Path) -> None:
    stages = stack_stages(settings(tmp_path), None, "redis://x")
    assert [[plan.name for plan in stage] for stage in stages] == [
        ["env"],
        ["inference", "rollout", "advantage", "trainer", "api"],
    ]


def test_a_restarted_service_gets_the_port_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STACK_API_PORT", raising=False)
    (env,), rest = stack_stages(Settings(data_dir=tmp_path), None, "redis://x")
    assert env.variables({})["ENV_SERVICE_PORT"] == "0"
    assert env.variables({"env": "127.0.0.1:4711"})["ENV_SERVICE_PORT"] == "4711"
    api = rest[-1]
    first = api.variables({"env": "127.0.0.1:1"})
    assert (first["API_PORT"], first["API_PORT_OPTIONAL"]) == ("8400", "True")  # any other port will do
    again = api.variables({"env": "127.0.0.1:1", "api": "http://127.0.0.1:4712"})
    assert (again["API_PORT"], again["API_PORT_OPTIONAL"]) == ("4712", "False")


def test_a_port_that_was_asked_for_is_the_api_s_or_nobody_s(tmp_path: Path) -> None:
    _, rest = stack_stages(settings(tmp_path, api_port=8400), None, "redis://x")
    api = rest[-1].variables({"env": "127.0.0.1:1"})
    assert (api["API_PORT"], api["API_PORT_OPTIONAL"]) == ("8400", "False")
    _, rest = stack_stages(settings(tmp_path, api_port=0), None, "redis://x")
    assert rest[-1].variables({"env": "127.0.0.1:1"})["API_PORT_OPTIONAL"] == "True"


def test_everybody_gets_the_same_redis_and_few_threads(tmp_path: Path) -> None:
    (_,), rest = stack_stages(settings(tmp_path), None, "redis://x")
    for plan in rest:
        variables = plan.variables({"env": "127.0.0.1:1"})
        assert variables[f"{plan.name.upper()}_REDIS_URL"] == "redis://x"
        assert variables["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("installed", [True, False])
def test_the_api_knows_whether_vllm_is_there(tmp_path: Path, installed: bool) -> None:
    python = tmp_path / "python"
    if installed:
        python.touch()
    (_,), rest = stack_stages(settings(tmp_path, vllm_python=python), None, "redis://x")
    engines = json.loads(rest[-1].variables({"env": "127.0.0.1:1"})["API_ENGINES"])
    assert ("vllm" in engines) is installed
    assert rest[0].variables({}).get("INFERENCE_VLLM_PYTHON") == (str(python) if installed else None)
