"""Settings of the API: environment variables API_*."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from limits import parse
from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.api.security.loopback import is_loopback
from services.contracts.job import TrackerNames
from services.kit.addresses import Addresses
from services.kit.redis_address import BrokerUrl, RedisUrl

_KEY_CHARACTERS, _KEY_DISTINCT = 24, 10
_PLACEHOLDER = re.compile(r"(?i)change.?me|change.?this|replace|placeholder|example|password|secret|your.?key|[<>${}]")


def _rate(text: str) -> str:
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(f"want a rate such as 100/second or 6000/minute, got {text!r}") from error
    return text


Rate = Annotated[str, AfterValidator(_rate)]


class Settings(BaseSettings):
    """Read once in main, passed down."""

    model_config = SettingsConfigDict(env_prefix="API_", frozen=True)

    redis_url: RedisUrl
    broker_url: BrokerUrl = ""
    """Celery's database, the same as the trainer's; empty: `redis_url`. A cluster wants one beside it."""
    data_dir: Path
    """Shared storage: jobs' rollouts and checkpoints; what a new job takes over from another is brought there."""
    database_url: SecretStr = SecretStr("")
    """postgresql://user:password@host/name, or another SQLAlchemy URL with an async driver; empty: SQLite in
    `data_dir/platform.sqlite`."""
    env_address: Addresses
    """host:port of the environment service, several with commas between them: one that answers is asked."""
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)
    """0: given by the system; see address_file."""
    port_optional: bool = False
    """Listen on a port that the system gives, instead of ending, when `port` is taken."""
    address_file: Path | None = None
    """Written whole when the service is ready: the same line of JSON as on stdout."""
    pulse_file: Path | None = None
    """Touched every other second while the service works, for whoever restarts one that hangs; see `kit.pulse`."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port of /livez, /readyz and /metrics, which need no key; 0: given by the system, see address_file."""
    key: SecretStr | None = None
    """The first administrator's key. When it is set, every call needs a key; at least 24 random characters."""
    key_file: Path | None = None
    """A file that holds that key, such as a mounted secret; instead of `key`."""
    require_keys: bool = False
    """Every call needs a key, and the administrators' are in the database."""
    rate_per_key: Rate = "6000/minute"
    """Calls of one key, where keys are wanted."""
    rate_per_address: Rate = "12000/minute"
    """Calls from one address, where keys are wanted."""
    rate_wrong_keys: Rate = "30/minute"
    """Wrong keys from one address; more, and none of its calls is answered for a while."""
    rate_storage: Literal["process", "redis"] = "process"
    """Place of the counters. `redis`: shared by all API processes; while it does not answer, each counts alone."""
    model_roots: list[Path] = []
    """Folders that models and data may lie in. None set: any folder while no keys are wanted, else none."""
    hub_models: bool = False
    """Jobs may name models of the Hugging Face hub, which the trainer fetches; HF_ENDPOINT and HF_TOKEN are read by API
    and trainer."""
    user_files: bool = False
    """Callers with a key may name files for their jobs too, such as reward functions; they must lie in the model roots,
    and functions run in the environments' workers. Without keys everybody may."""
    engines: list[str] = ["vllm", "transformers"]
    """Inference engines that this installation can run."""
    trackers: Annotated[TrackerNames, NoDecode] = []
    """Trackers besides TensorBoard that are installed where the trainer runs: mlflow, wandb, trackio, with commas."""
    expected_services: list[str] = ["rollout", "inference", "advantage", "trainer"]
    """Health wants a heartbeat of each."""
    runs_here: bool = False
    """Trainer and engines run on this machine: a job that can never fit it is refused."""
    env_timeout_s: float = Field(5.0, gt=0)
    """Longest wait for the environment service."""
    reconcile_s: float = Field(1.0, gt=0)
    """Longest time between two looks at what is still to be done."""
    loss_s: float = Field(15.0, gt=0)
    """Time between two looks at whether Redis still has what it was given of each job; what is missing in two of them
    is given again."""
    alarm_s: float = Field(15.0, gt=0)
    """Time between two looks at what may be an alarm; what is over its limit in two of them is one."""
    export_s: float = Field(5.0, gt=0)
    """Time between two readings of queues and ledgers for /metrics; a probe or a scrape reads nothing."""
    docs_url: str = Field("", pattern=r"^(https?://\S+)?$")
    """Address of the documentation; the dashboard links to it."""
    max_body_bytes: int = Field(1 << 20, ge=1024)
    drain_s: int = Field(3, ge=0)
    """Seconds that open calls, event streams included, have to end after SIGTERM."""
    log_level: str = "INFO"

    @model_validator(mode="after")
    def _is_not_open_to_everybody(self) -> Self:
        if self.key is not None and self.key_file is not None:
            raise ValueError("API_KEY, API_KEY_FILE: want one of the two, got both")
        if (key := self.key_text) is not None and (weakness := _weakness(key)):
            raise ValueError(f"{'API_KEY' if self.key else 'API_KEY_FILE'}: {weakness}")
        if not is_loopback(self.host) and not self.keys_wanted:
            raise ValueError(
                f"API_HOST: {self.host} can be reached from other machines; "
                "set API_KEY or API_KEY_FILE first (`openssl rand -hex 24` makes a key), or API_REQUIRE_KEYS"
            )
        return self

    @model_validator(mode="after")
    def _keeps_models_and_jobs_apart(self) -> Self:
        ours = self.data_dir.resolve()
        for root in self.model_roots:
            real = root.resolve()
            if real.is_relative_to(ours) or ours.is_relative_to(real):
                raise ValueError(f"API_MODEL_ROOTS: want folders outside API_DATA_DIR ({ours}), got {root}")
        return self

    @property
    def broker(self) -> str:
        """Address of Celery's database."""
        return self.broker_url or self.redis_url

    @property
    def keys_wanted(self) -> bool:
        """Whether every call needs a key."""
        return self.require_keys or self.key is not None or self.key_file is not None

    @property
    def key_text(self) -> str | None:
        """The administrator's key, from the settings or their file. Raises ValueError for a file that can't be read."""
        if self.key is not None:
            return self.key.get_secret_value()
        if self.key_file is None:
            return None
        try:
            return self.key_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"API_KEY_FILE: {self.key_file} cannot be read: {error}") from error

    @property
    def sql_url(self) -> str:
        """The database's URL with its driver, SQLite's made from `data_dir`."""
        given = with_driver(self.database_url.get_secret_value())
        return given or f"sqlite+aiosqlite:///{(self.data_dir / 'platform.sqlite').resolve()}"


def with_driver(url: str) -> str:
    """A PostgreSQL address with the driver that we use; any other as it is."""
    return url.replace("postgresql://", "postgresql+asyncpg://", 1)


def _weakness(key: str) -> str | None:
    """Why this key is weak, without the key; None: it is strong."""
    if len(key) < _KEY_CHARACTERS or len(set(key)) < _KEY_DISTINCT:
        return f"want at least {_KEY_CHARACTERS} random characters, got {len(key)}, {len(set(key))} of them distinct"
    if not key.isascii() or not key.isprintable() or " " in key:
        return "want printable ASCII characters without spaces"
    if found := _PLACEHOLDER.search(key):
        return f"want a random key, got one with {found[0]!r} in it, which looks like a placeholder"
    return None
