"""How the API is set: environment variables API_*."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read once in main, passed down."""

    model_config = SettingsConfigDict(env_prefix="API_", frozen=True)

    redis_url: str
    data_dir: Path
    """Shared storage: jobs' rollouts and checkpoints; what a new job takes over from another is brought there."""
    database_url: SecretStr = SecretStr("")
    """postgresql://user:password@host/name, or another SQLAlchemy URL with an async driver; empty: SQLite in
    `data_dir/platform.sqlite`."""
    env_address: str
    """host:port of the environment service."""
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)
    """0: given by the system; see address_file."""
    port_optional: bool = False
    """When `port` is taken, listen on one that the system gives instead of ending."""
    address_file: Path | None = None
    """Written whole when the service is ready: the same line of JSON as on stdout."""
    key: SecretStr | None = None
    """When set, every call but /healthz needs `Authorization: Bearer <key>`. At least 16 characters."""
    engines: list[str] = ["vllm", "transformers"]
    """Inference engines that this installation can run."""
    trackers: list[str] = []
    """Trackers besides TensorBoard that are installed where the trainer runs: mlflow, wandb, trackio."""
    expected_services: list[str] = ["rollout", "inference", "advantage", "trainer"]
    """Health wants a heartbeat of each."""
    env_timeout_s: float = Field(5.0, gt=0)
    """Longest wait for the environment service."""
    reconcile_s: float = Field(1.0, gt=0)
    """Longest time between two looks at what is still to be done."""
    max_body_bytes: int = Field(1 << 20, ge=1024)
    drain_s: int = Field(3, ge=0)
    """After SIGTERM open calls, event streams included, have this long to end."""
    log_level: str = "INFO"

    @model_validator(mode="after")
    def _is_not_open_to_everybody(self) -> Self:
        if self.key is not None and len(self.key.get_secret_value()) < 16:
            raise ValueError("API_KEY: want at least 16 characters")
        if not _is_loopback(self.host) and self.key is None:
            raise ValueError(f"API_HOST: {self.host} can be reached from other machines; set API_KEY first")
        return self

    @property
    def sql_url(self) -> str:
        """The database's URL with its driver, SQLite's made from `data_dir`."""
        given = self.database_url.get_secret_value().replace("postgresql://", "postgresql+asyncpg://", 1)
        return given or f"sqlite+aiosqlite:///{(self.data_dir / 'platform.sqlite').resolve()}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name; who can reach it is unknown
        return False
