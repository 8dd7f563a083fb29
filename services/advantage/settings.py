"""Settings of the advantage service: environment variables ADVANTAGE_*."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.redis_address import RedisUrl


class Settings(BaseSettings):
    """Read once in main, passed down."""

    model_config = SettingsConfigDict(env_prefix="ADVANTAGE_", frozen=True)

    redis_url: RedisUrl
    """No default: a missing address must stop the start."""
    address_file: Path | None = None
    """Written whole when the service is ready: the same line of JSON as on stdout."""
    pulse_file: Path | None = None
    """Touched every other second while the service works, for whoever restarts one that hangs; see `kit.pulse`."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port of /livez, /readyz and /metrics, which need no key; 0: given by the system, see address_file."""
    log_level: str = "INFO"

    device: str = "cpu"
    """Torch device of the computation. `cpu` gives the same bytes on every machine."""
    torch_threads: int = Field(1, ge=1)
    """One is enough for thousands of steps, and leaves the other cores to sampling and training."""

    max_groups: int = Field(64, ge=1, le=4096)
    """Groups of one micro-batch, over all jobs."""
    max_wait_s: float = Field(0.02, ge=0, le=10)
    """Longest the first group of a micro-batch waits for others, seconds."""
    jobs_poll_s: float = Field(0.5, gt=0, le=60)
    """How often the set of active jobs is read, seconds."""
    reclaim_idle_s: float = Field(5.0, gt=0)
    """An entry untouched for so long belonged to a dead replica (to be scored within 10 s)."""
    max_deliveries: int = Field(3, ge=1)
    """A group that could not be scored so often goes to the dead letters with its cause."""
    traces_url: str = Field("", pattern=r"^(https?://\S+)?$")
    """Where spans are sent, OTLP over HTTP, such as http://jaeger:4318/v1/traces; empty: none are made."""
    traces_share: float = Field(1.0, ge=0, le=1)
    """Share of the groups that are traced."""
