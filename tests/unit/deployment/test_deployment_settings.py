"""The compose files and the chart set what exists: every variable is a setting, every service has a health check."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

from services.contracts.redis_users import KEYS, acl_line

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


def users(compose: dict[str, Any]) -> dict[str, list[str]]:
    """User of Redis -> its rules, each variable replaced by PASSWORD."""
    words = shlex.split(re.sub(r"\$\{.*?\}", "PASSWORD", compose["redis"]["command"]))
    options = [list(group) for is_key, group in groupby(words, lambda word: word.startswith("--")) if not is_key]
    return {name: rules for name, *rules in options if rules and rules[0] == "on"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return services


def test_every_service_is_composed(compose: dict[str, Any]) -> None:
    assert set(compose) == {*SERVICES, "redis", "prometheus", "grafana", "jaeger"}
    assert {name for name, told in compose.items() if "profiles" in told} == {"prometheus", "grafana", "jaeger"}


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
    assert environment[f"{prefix}METRICS_HOST"] == "${GIGPO_METRICS_HOST:-127.0.0.1}"
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


def test_env_sees_neither_redis_nor_data_nor_the_way_out(compose: dict[str, Any]) -> None:
    networks = yaml.safe_load(COMPOSE.read_text())["networks"]
    assert compose["env"]["networks"] == ["envs"]
    assert networks["envs"] == networks["core"] == {"internal": True}
    assert compose["redis"]["networks"] == ["core"]
    assert {name for name, told in compose.items() if "envs" in told["networks"]} == {
        *("env", "rollout", "api", "prometheus")
    }
    assert not [mount for mount in compose["env"]["volumes"] if mount.startswith("data:")]
    assert "REDIS" not in str(compose["env"])


@pytest.mark.parametrize("name", ["redis", "prometheus", "grafana", "jaeger"])
def test_what_is_not_ours_is_confined_too(compose: dict[str, Any], name: str) -> None:
    told = compose[name]
    assert (told["read_only"], told["cap_drop"]) == (True, ["ALL"])
    assert told["security_opt"] == ["no-new-privileges:true"]
    assert ":" in told["image"]


def test_only_loopback_ports_are_published(compose: dict[str, Any]) -> None:
    assert all(port.startswith("127.0.0.1:") for told in compose.values() for port in told.get("ports", []))


@pytest.mark.parametrize("service", sorted(KEYS))
def test_each_service_is_a_user_of_redis(compose: dict[str, Any], service: str) -> None:
    secret = f"GIGPO_REDIS_{service.upper()}"
    words = users(compose)[service]
    assert words == acl_line(service, "PASSWORD").split()[2:]
    assert f"--user {service} on >${{{secret}:?" in compose["redis"]["command"]
    assert compose[service]["environment"][f"{service.upper()}_REDIS_URL"] == (
        f"redis://{service}:${{{secret}}}@redis:6379/0"
    )
    assert secret in (ROOT / "scripts/compose_secrets.sh").read_text()


def test_without_a_password_one_can_only_ping(compose: dict[str, Any]) -> None:
    assert users(compose)["default"] == ["on", "nopass", "resetkeys", "resetchannels", "-@all", "+ping"]
    assert set(users(compose)) == {"default", "operator", *KEYS}


def test_prometheus_asks_every_service_and_reads_the_alerts(compose: dict[str, Any]) -> None:
    told = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())
    (job,) = told["scrape_configs"]
    (names,) = job["dns_sd_configs"]
    assert (set(names["names"]), names["port"]) == (set(SERVICES), 9100)
    mounts = [mount.split(":") for name in ("prometheus", "grafana") for mount in compose[name]["volumes"]]
    files = {inside: ROOT / path for path, inside, *_ in mounts if path.startswith("./")}
    assert all(path.exists() for path in files.values())
    assert set(told["rule_files"]) <= set(files)
    (provider,) = yaml.safe_load((ROOT / "monitoring/grafana/dashboards/gigpo.yml").read_text())["providers"]
    assert any(inside.startswith(provider["options"]["path"]) for inside in files)


@pytest.mark.parametrize("service", SERVICES)
def test_the_chart_runs_the_image_that_compose_runs(compose: dict[str, Any], service: str) -> None:
    told = yaml.safe_load((CHART / "values.yaml").read_text())["services"][service]
    assert f"gigpo-{told['image']}" == compose[service]["image"]
