"""A wrong setting of any service is a sentence that names its variable, and exit status 2; secrets are never shown."""

from __future__ import annotations

from typing import Any

import pytest

from services.advantage import settings as advantage
from services.api import settings as api
from services.contracts.service_settings import REFUSED, read_settings
from services.env import settings as env
from services.inference import settings as inference
from services.rollout import settings as rollout
from services.trainer import settings as trainer

SERVICES = {
    "ADVANTAGE_": advantage.Settings,
    "API_": api.Settings,
    "ENV_SERVICE_": env.Settings,
    "INFERENCE_": inference.Settings,
    "ROLLOUT_": rollout.Settings,
    "TRAINER_": trainer.Settings,
}
ENOUGH = {"REDIS_URL": "redis://localhost", "DATA_DIR": "data", "ENV_ADDRESS": "localhost:1"}


def refused(kind: Any, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        read_settings(kind)
    assert ended.value.code == REFUSED
    return capsys.readouterr().err


@pytest.mark.parametrize("prefix", sorted(SERVICES))
def test_a_wrong_number_is_a_sentence(
    prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind: Any = SERVICES[prefix]
    for name, value in ENOUGH.items():
        monkeypatch.setenv(f"{prefix}{name}", value)
    field = next(name for name, one in kind.model_fields.items() if one.annotation in (int, float))
    monkeypatch.setenv(f"{prefix}{field.upper()}", "many")
    said = refused(kind, capsys)
    assert said.startswith(f"{prefix}{field.upper()}: want a ")
    assert said.endswith("got 'many'\n")


@pytest.mark.parametrize("prefix", sorted(set(SERVICES) - {"ENV_SERVICE_"}))
def test_a_missing_address_is_a_sentence(
    prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(f"{prefix}REDIS_URL", raising=False)
    assert f"{prefix}REDIS_URL: want a value, none is given" in refused(SERVICES[prefix], capsys)


def test_a_weak_key_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**ENOUGH, "KEY": "hunter2"}.items():
        monkeypatch.setenv(f"API_{name}", value)
    said = refused(api.Settings, capsys)
    assert said.startswith("API_KEY: want at least 24 random characters")
    assert "hunter2" not in said


def test_what_is_no_json_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ENV_SERVICE_OPTIONS", "{")
    assert refused(env.Settings, capsys) == "ENV_SERVICE_OPTIONS: want JSON, got '{'\n"


def test_an_environment_of_ones_own_takes_no_id_of_this_project(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENV_SERVICE_EXTRA_ENVIRONMENTS", '{"coin": "coin:Coin", "grid": "mine:Grid"}')
    assert refused(env.Settings, capsys) == (
        "ENV_SERVICE_EXTRA_ENVIRONMENTS: want an id that is free: 'grid' is services.env.environments.grid:Grid of "
        "this project, got mine:Grid\n"
    )
    monkeypatch.setenv("ENV_SERVICE_EXTRA_ENVIRONMENTS", '{"grid": "services.env.environments.grid:Grid"}')
    assert read_settings(env.Settings).extra_environments
