"""The plan of a stack: its services, their order and their settings."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from services.contracts.job import TrackerName
from services.contracts.user_files import files_root
from services.stack.child import ServicePlan, Variables
from services.stack.settings import Settings
from services.stack.valkey import ValkeyPlan

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def stack_stages(settings: Settings, valkey: ValkeyPlan | None, redis_url: str) -> list[list[ServicePlan]]:
    """Redis first, then the environments, whose address the others need, then the rest together."""
    data_dir, env_host = settings.data_dir.absolute(), "127.0.0.1"
    shared = {**dict.fromkeys(_THREAD_VARIABLES, str(settings.threads)), "TOKENIZERS_PARALLELISM": "false"}

    def service(name: str, prefix: str, variables: Variables, stop_s: float, *, needed: bool = False) -> ServicePlan:
        pulse = data_dir / "pulses" / name

        def all_variables(addresses: Mapping[str, str]) -> dict[str, str]:
            own = {"LOG_LEVEL": settings.log_level, "PULSE_FILE": str(pulse), **variables(addresses)}
            return {**shared, **{f"{prefix}{key}": value for key, value in own.items()}}

        command = [sys.executable, "-m", f"services.{name}.main"]
        return ServicePlan(name, command, all_variables, stop_s=stop_s, needed=needed, pulse=pulse)

    def with_redis(**more: str) -> Variables:
        return lambda _: {"REDIS_URL": redis_url, "DATA_DIR": str(data_dir), **more}

    traces = {"TRACES_URL": settings.traces_url} if settings.traces_url else {}

    broker = {"BROKER_URL": settings.broker_url} if settings.broker_url else {}

    def env(addresses: Mapping[str, str]) -> dict[str, str]:
        return {
            "HOST": env_host,
            "PORT": _port(addresses.get("env")),
            "ADDRESS_FILE": _address_file(data_dir, "env"),
            "DRAIN_S": str(settings.drain_s),
            "FILES_ROOT": str(files_root(data_dir)),
        }

    def rollout(addresses: Mapping[str, str]) -> dict[str, str]:
        return {**with_redis(**traces)(addresses), "ENV_ADDRESS": addresses["env"], "DRAIN_S": str(settings.drain_s)}

    def api(addresses: Mapping[str, str]) -> dict[str, str]:
        again = "api" in addresses  # clients know where it was
        return {
            **with_redis(**broker)(addresses),
            "ENV_ADDRESS": addresses["env"],
            "PORT": _port(addresses["api"]) if again else str(settings.api_port),
            "PORT_OPTIONAL": str(not again and not settings.port_asked_for),
            "ADDRESS_FILE": _address_file(data_dir, "api"),
            "RUNS_HERE": "true",
            "ENGINES": json.dumps(_engines(settings)),
            "TRACKERS": ",".join(name for name in get_args(TrackerName) if find_spec(name)),
        }

    vllm = settings.found_vllm_python()
    inference = {"VLLM_PYTHON": str(vllm)} if vllm else {}
    first = (
        [ServicePlan("valkey", valkey.command, probe=valkey.answers, lives=valkey.lives, needed=True)] if valkey else []
    )
    environments = service("env", "ENV_SERVICE_", env, stop_s=settings.drain_s + 8.0, needed=True)
    rest = [
        service("inference", "INFERENCE_", with_redis(**inference, **traces), stop_s=25.0),
        service("rollout", "ROLLOUT_", rollout, stop_s=settings.drain_s + 8.0),
        service("advantage", "ADVANTAGE_", with_redis(**traces), stop_s=8.0),
        service("trainer", "TRAINER_", with_redis(**broker, **traces), stop_s=40.0),
        service("api", "API_", api, stop_s=8.0, needed=True),
    ]
    stages = [first, [environments], rest]
    return [stage for stage in stages if stage]


def _engines(settings: Settings) -> list[str]:
    return ["vllm", "transformers"] if settings.found_vllm_python() else ["transformers"]


def _port(address: str | None) -> str:
    """The port of an address that was announced before, so that a restarted service is found where it was."""
    return "0" if address is None else address.rpartition(":")[2]


def _address_file(data_dir: Path, name: str) -> str:
    folder = data_dir / "addresses"
    folder.mkdir(parents=True, exist_ok=True)
    return str(folder / f"{name}.json")
