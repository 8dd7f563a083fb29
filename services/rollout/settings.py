"""Settings of a rollout worker: environment variables ROLLOUT_*."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.addresses import Addresses
from services.kit.redis_address import RedisUrl
from services.rollout.limits import EnvironmentLimits, InferenceLimits

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """Read once in main, passed down."""

    model_config = SettingsConfigDict(env_prefix="ROLLOUT_", frozen=True)

    redis_url: RedisUrl
    env_address: Addresses
    """host:port of the environment service, several with commas between them. A name may stand for many machines."""
    data_dir: Path = Path("runs/.platform")
    """Shared storage; a job's tokenizer lies in it."""
    address_file: Path | None = None
    """Written whole when the worker is ready: the same line of JSON as on stdout."""
    pulse_file: Path | None = None
    """Touched every other second while the service works, for whoever restarts one that hangs; see `kit.pulse`."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port of /livez, /readyz and /metrics, which need no key; 0: given by the system, see address_file."""
    log_level: str = "INFO"

    max_episodes: int = Field(256, ge=1)
    """Episodes in flight. A group that is larger than this is played alone."""
    discover_every_s: Seconds = 0.5
    """How often the set of active jobs is read."""
    reclaim_idle_s: Seconds = 10.0
    """A group that no worker touched for so long is played again; a live one touches its own three times as often."""
    drain_s: float = Field(60.0, ge=0, le=3600)
    """Seconds that groups under way have to finish after SIGTERM; the rest is left to other workers."""

    coalesce_ms: float = Field(1.0, ge=0, le=100)
    """Calls made within this time go out as one message."""
    max_batch: int = Field(256, ge=1)
    """Steps or prompts in one message."""

    open_timeout_s: Seconds = 240.0
    """Longest wait for the sessions of one group, waiting for room and for a worker's start included."""
    step_timeout_s: Seconds = 90.0
    """Longest wait for one step, repeats included; longer than the environment service's own limit on a step."""
    call_timeout_s: Seconds = 40.0
    """Deadline of one call to the environment service; past it the same step is asked for again."""

    generate_attempts: int = Field(4, ge=1, le=100)
    """How many replicas may die on one prompt before its attempt fails. One that lives may take as long as it needs."""
    replica_wait_s: Seconds = 300.0
    """Longest wait for a live replica that takes the prompt; longer than an engine may take to start."""
    lost_poll_s: Seconds = 5.0
    """How often a worker looks whether replicas still owe it what it waits for; the second look finds a loss."""
    replica_poll_s: Seconds = 0.5
    """How often the table of replicas is read."""
    traces_url: str = Field("", pattern=r"^(https?://\S+)?$")
    """Where spans are sent, OTLP over HTTP, such as http://jaeger:4318/v1/traces; empty: none are made."""
    traces_share: float = Field(1.0, ge=0, le=1)
    """Share of the groups that are traced."""

    def environment_limits(self) -> EnvironmentLimits:
        """Those of the environment client."""
        return EnvironmentLimits(
            open_timeout_s=self.open_timeout_s,
            step_timeout_s=self.step_timeout_s,
            call_timeout_s=self.call_timeout_s,
            coalesce_s=self.coalesce_ms / 1000,
            max_batch=self.max_batch,
        )

    def inference_limits(self) -> InferenceLimits:
        """Those of the inference client."""
        return InferenceLimits(
            generate_attempts=self.generate_attempts,
            replica_wait_s=self.replica_wait_s,
            replica_poll_s=self.replica_poll_s,
            lost_poll_s=self.lost_poll_s,
            coalesce_s=self.coalesce_ms / 1000,
            max_batch=self.max_batch,
        )
