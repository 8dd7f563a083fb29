"""What the compose files and the chart set exists: every variable is a setting, every service has a health check."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[3]
COMPOSE, CHART = ROOT / "docker-compose.yml", ROOT / "helm" / "gigpo"
SERVICES = ("advantage", "api", "env", "inference", "rollout", "trainer")
STAGE = re.compile(r"^FROM \S+ AS (\S+)$", re.MULTILINE)


def variables(service: str) -> set[str]:
    """Every environment variable that `service` reads."""
    settings: type[BaseSettings] = import_module(f"services.{service}.settings").Settings
    return {f"{settings.model_config['env_prefix']}{field}".upper() for field in settings.model_fields}


def required(service: str) -> set[str]:
    """Those without a default."""
    settings: type[BaseSettings] = import_module(f"services.{service}.settings").Settings
    prefix = settings.model_config["env_prefix"]
    return {f"{prefix}{name}".upper() for name, field in settings.model_fields.items() if field.is_required()}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return services


def test_every_service_is_composed(compose: dict[str, Any]) -> None:
    assert set(compose) == {*SERVICES, "redis"}


@pytest.mark.parametrize("service", SERVICES)
def test_compose_sets_what_the_service_reads_and_wants(compose: dict[str, Any], service: str) -> None:
    settings: type[BaseSettings] = import_module(f"services.{service}.settings").Settings
    prefix = str(settings.model_config["env_prefix"])
    given = {name for name in compose[service]["environment"] if name.startswith(prefix)}
    assert given <= variables(service)
    assert required(service) <= given


@pytest.mark.parametrize("service", SERVICES)
def test_a_composed_service_is_confined_and_says_whether_it_is_well(compose: dict[str, Any], service: str) -> None:
    told = compose[service]
    prefix = import_module(f"services.{service}.settings").Settings.model_config["env_prefix"]
    environment = told["environment"]
    assert told["healthcheck"]["test"] == ["CMD", "gigpo-probe", "/readyz", environment[f"{prefix}PULSE_FILE"]]
    assert environment[f"{prefix}METRICS_PORT"] == "9100"  # the default of scripts/probe.sh
    assert f"{prefix}METRICS_HOST" not in environment
    assert told["init"]  # else the service would be process 1, which nothing in its container can kill
    assert told["command"] == ["python3", "-m", f"services.{service}.main"]
    confined = (told["read_only"], told["cap_drop"], told["security_opt"])
    assert confined == (True, ["ALL"], ["no-new-privileges:true"])


def test_every_image_is_built_by_somebody_from_a_stage_that_exists(compose: dict[str, Any]) -> None:
    stages = set(STAGE.findall((ROOT / "Dockerfile").read_text()))
    built = {told["image"]: told["build"]["args"]["PACKAGES"] for told in compose.values() if "build" in told}
    assert {compose[service]["image"] for service in SERVICES} == set(built)
    assert set(built.values()) <= stages
    overlay = (ROOT / "docker-compose.cpu.yml").read_text()
    assert set(re.findall(r"PACKAGES: ([a-z-]+)", overlay)) <= stages


@pytest.mark.parametrize("service", SERVICES)
def test_the_chart_runs_the_image_that_compose_runs(compose: dict[str, Any], service: str) -> None:
    told = yaml.safe_load((CHART / "values.yaml").read_text())["services"][service]
    assert f"gigpo-{told['image']}" == compose[service]["image"]
