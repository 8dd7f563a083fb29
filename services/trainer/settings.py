"""Settings of the trainer: environment variables TRAINER_*."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.contracts.learner_memory import RankSettings
from services.kit.redis_address import BrokerUrl, RedisUrl


class Settings(RankSettings):
    """Read once in main and once in the pool's child, passed down."""

    model_config = SettingsConfigDict(env_prefix="TRAINER_", frozen=True)

    redis_url: RedisUrl
    """No default: a missing address must stop the start."""
    broker_url: BrokerUrl = ""
    """Celery's database, the same as the API's; empty: `redis_url`. A cluster wants one beside it."""
    data_dir: Path = Path("runs/.platform")
    """Shared storage: what the trainer writes, replicas and the API read."""
    address_file: Path | None = None
    """Written whole when the worker is ready: the same line of JSON as on stdout."""
    pulse_file: Path | None = None
    """Touched every other second while the service works, for whoever restarts one that hangs; see `kit.pulse`."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port of /livez, /readyz and /metrics, which need no key; 0: given by the system, see address_file."""
    log_level: str = "INFO"
    torch_threads: int = Field(1, ge=1)
    """Threads of torch; on few cores the engine needs the others while the trainer computes."""

    nodes: int = Field(1, ge=1)
    """Machines that share the ranks evenly; on each of the others `services.trainer.ranks.node` runs."""
    node: int = Field(0, ge=0)
    """This machine among them; 0 is the one that takes jobs."""
    rendezvous: str = Field("", pattern=r"^([^\s:]+:[0-9]{1,5})?$")
    """host:port of node 0, where nodes meet."""

    warm_sessions: int = Field(4, ge=1)
    """Jobs whose policy stays in memory between their segments; 1 where one fills the device."""
    segment_s: float = Field(600.0, gt=0)
    """A segment ends after the batch during which so much time has passed, though checkpoint_every is not reached."""
    room_wait_s: float = Field(15.0, gt=0)
    """Longest wait at the door of a job for which no inference replica is free; then another job has its turn."""
    fruitless_takes: int = Field(10, ge=2)
    """A job that trainers took up so often in a row without anything new fails; at half of it its owner is warned."""
    child_start_s: float = Field(300.0, ge=120)
    """Longest start of the pool's child until it is up; imports take 25 times as long on a busy machine."""
    child_hung_s: float = Field(60.0, ge=4)
    """A child that gives no sign of life for so long is killed and its job taken up again; one that computes has 15
    times as long."""
    loop_hung_s: float = Field(60.0, ge=12)
    """The worker's own loop, which takes messages and watches the child, may stand still for so long, while Redis
    answers; then the trainer gives no more signs of life."""
    visibility_timeout_s: float = Field(40.0, ge=3)
    """A message whose worker was not heard of for so long is delivered again; one whose trainer's heartbeat is gone, as
    soon as another trainer has noticed that."""
    restore_interval_s: float = Field(2.0, gt=0)
    """How often the broker's client looks for such messages; comes on top of that."""
    ack_timeout_s: float = Field(720.0, gt=0)
    """Longest wait until a replica serves a published version; the first one starts an engine, which may
    take INFERENCE_VLLM_START_S."""
    policy_keep: int = Field(3, ge=1)
    """Newest policy versions that stay on shared storage; a replica loads the newest only."""
    poll_s: float = Field(0.5, gt=0)
    """How often the user's command and the states of missing groups are looked at while waiting."""
    traces_url: str = Field("", pattern=r"^(https?://\S+)?$")
    """Where spans are sent, OTLP over HTTP, such as http://jaeger:4318/v1/traces; empty: none are made."""
    traces_share: float = Field(1.0, ge=0, le=1)
    """Share of the groups that are traced."""

    @model_validator(mode="after")
    def _whole_nodes(self) -> Settings:
        if self.ranks % self.nodes:
            raise ValueError(f"nodes: want a divisor of ranks = {self.ranks}, got {self.nodes}")
        if self.node >= self.nodes:
            raise ValueError(f"node: want less than nodes = {self.nodes}, got {self.node}")
        if self.nodes > 1 and not self.rendezvous:
            raise ValueError("rendezvous: want host:port of node 0, because there are several nodes; none is given")
        return self

    @property
    def broker(self) -> str:
        """Address of Celery's database."""
        return self.broker_url or self.redis_url
