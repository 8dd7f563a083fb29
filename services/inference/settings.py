"""Settings of the inference service: environment variables INFERENCE_*."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.lifecycle import instance_name
from services.kit.redis_address import RedisUrl


class Settings(BaseSettings):
    """Environment variables `INFERENCE_*`."""

    model_config = SettingsConfigDict(env_prefix="INFERENCE_", frozen=True)

    redis_url: RedisUrl  # no default: a missing address must stop the start
    data_dir: Path
    """Shared storage. A policy version outside it is refused; engine logs go to `<data_dir>/logs`."""
    replica: str = Field(default_factory=lambda: instance_name("inference"))
    """This replica's name, unique among the live ones: its request stream and heartbeat bear it."""
    address_file: Path | None = None
    """Written once the replica is registered."""
    pulse_file: Path | None = None
    """Touched every other second while the service works, for whoever restarts one that hangs; see `kit.pulse`."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port of /livez, /readyz and /metrics, which need no key; 0: given by the system, see address_file."""
    log_level: str = "INFO"

    vllm_python: Path = Path(".venv-vllm/bin/python")
    """Interpreter of the environment that holds vLLM and our plugin (install_vllm.py makes it)."""
    vllm_device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: cuda where an NVIDIA driver is loaded."""
    vllm_start_s: float = Field(600.0, gt=0)
    """A starting server that shows nothing for so long hangs, seconds: no CPU time and no line in its log. How long the
    whole start takes is not bounded (20 s is usual for a small model on an idle CPU)."""
    vllm_stop_s: float = Field(12.0, gt=0)
    """Seconds from SIGTERM to SIGKILL."""
    vllm_kv_cache_mib: int = Field(256, gt=0)
    """Key-value cache on a CPU, MiB; a GPU takes `vllm_gpu_memory` of its memory instead."""
    vllm_gpu_memory: float = Field(0.6, gt=0, lt=1)
    """Share of a GPU's memory for vLLM; the trainer may sit on the same one."""
    vllm_nodes: int = Field(1, ge=1)
    """Machines whose GPUs an engine may use, joined by Ray, which runs on each of them before this service starts."""
    stall_s: float = Field(10.0, gt=0)
    """An engine that shows nothing for so long is dead, seconds: its loop does not turn and it uses no CPU time."""
    token_s: float = Field(600.0, gt=0)
    """An engine that lives, owes tokens and samples none for so long is hung, seconds. Longer than any one step."""
    torch_threads: int = Field(1, ge=1)
    """CPU threads of the sampling process."""

    max_batch: int = Field(128, ge=1)
    """Prompts sampled together: vLLM's `max_num_seqs` and the most that one call carries."""
    linger_s: float = Field(0.02, ge=0)
    """Seconds for which prompts gather before the next call while the engine is busy. 0.02 took 40 % less CPU time than
    0.005 at 700 prompts/s and cost 13 ms (benchmarks/inference.py); an idle engine is called at once."""
    max_outstanding: int = Field(1_024, ge=1)
    """Prompts taken from the stream and not yet answered; more wait in Redis."""
    poll_s: float = Field(0.05, gt=0)
    """How often the job's newest manifest is looked at, seconds."""
    drain_s: float = Field(10.0, ge=0)
    """Seconds from SIGTERM to giving up on prompts in flight."""
    traces_url: str = Field("", pattern=r"^(https?://\S+)?$")
    """Where spans are sent, OTLP over HTTP, such as http://jaeger:4318/v1/traces; empty: none are made."""
    traces_share: float = Field(1.0, ge=0, le=1)
    """Share of the groups that are traced."""

    @field_validator("replica")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", value):
            raise ValueError(f"want letters, digits, '.', '_' or '-', got {value!r}")
        return value
