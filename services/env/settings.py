"""Settings of the environment service: environment variables ENV_SERVICE_*."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, JsonValue, StringConstraints, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.contracts import service_settings
from services.env.workers.registry import built_in_environments

PREFIX = "ENV_SERVICE_"

Seconds = Annotated[float, Field(gt=0, le=86_400)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


def _listed(names: object) -> object:
    """Names as they are written in an environment variable: as a JSON list, or with commas or spaces between them."""
    if not isinstance(names, str):
        return names
    return json.loads(names) if names.lstrip().startswith("[") else names.replace(",", " ").split()


class Settings(BaseSettings):
    """Read once in main, passed down."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535)
    """0: given by the system; see address_file."""
    address_file: Path | None = None
    """Written whole when the service is ready: the same line of JSON as on stdout."""
    pulse_file: Path | None = None
    """Touched every other second while the service works, for whoever restarts one that hangs; see `kit.pulse`."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535)
    """Port of /livez, /readyz and /metrics, which need no key; 0: given by the system, see address_file."""
    log_level: str = "INFO"

    workers: int = Field(1, ge=1, le=256)
    """Standing worker processes, which light environments share. One carries several thousand light steps a second."""
    own_workers: dict[str, Annotated[int, Field(ge=0, le=256)]] = {}
    """Environment id -> worker processes of its own; 0: it shares the standing ones. Not named: none for an environment
    that is light and thread-safe, `workers` for every other."""
    max_own_workers: int = Field(64, ge=1)
    """Workers of all own crews together; then RESOURCE_EXHAUSTED until one crew has no session left. One crew, however
    large, may always live."""
    worker_idle_s: Seconds = 300.0
    """An environment's own workers end when they were without a session for so long; the next one starts them again."""
    episodes_per_worker: int = Field(20_000, ge=0)
    """Episodes after which a worker is replaced, its sessions undisturbed; 0: never."""
    worker_memory_mb: int = Field(4096, ge=0)
    """Address space of one worker, MiB; 0: no limit. What exceeds it is an error of the environment."""
    worker_start_timeout_s: Seconds = 120.0
    """Longest a worker may take to come up; on a busy machine imports take 25 times as long."""

    plugin_timeout_s: Seconds = 30.0
    """Longest an environment that does not come with this project may take to be imported and to say what it is; then
    it is unavailable until the service starts again."""
    pass_env: Annotated[tuple[VariableName, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Names of environment variables that workers inherit, such as HF_HOME or the key of a server that an environment
    calls: all environments see them."""

    step_timeout_s: Seconds = 30.0
    """Longest one step or reset may run, seconds; then its worker is killed and the fault is INFRA."""
    step_cpu_s: float = Field(1800.0, ge=0)
    """CPU time that one step or reset may use, seconds, all threads of its worker together, whatever life it shows;
    then its worker is killed and the fault is INFRA. Half an hour: a first reset may read and index a job's data.
    Up to a quarter more may pass before it is seen. 0: no limit."""
    call_timeout_s: Seconds = 60.0
    """Longest a call waits for its answers, seconds, waiting for a busy worker included; then DEADLINE_EXCEEDED."""
    lease_ttl_s: Seconds = 120.0
    max_leases: int = Field(4096, ge=1)
    max_sessions: dict[str, Annotated[int, Field(ge=0)]] = {}
    """Environment id -> leases of it that may live at once; 0: no limit but max_leases. Wins over the class's own."""
    max_group_size: int = Field(1024, ge=1)
    max_batch_steps: int = Field(8192, ge=1)
    max_action_bytes: int = Field(262_144, ge=1)
    drain_s: float = Field(5.0, ge=0, le=3600)
    """Seconds that live leases have to end after SIGTERM."""

    options: dict[str, dict[str, JsonValue]] = {}
    """Environment id -> what its class finds in `options`, such as the addresses that `openenv` may call."""
    data_root: Path | None = None
    """Folder whose subfolders jobs may name as an environment's data, such as a catalogue; unset: none."""
    files_root: Path | None = None
    """Folder of the files that users' jobs name, data and reward functions, each below the hash of its content; the API
    puts them there. Unset: jobs bring none."""
    extra_environments: dict[str, str] = {}
    """Id -> "module:Class" of environments that no installed package registers. A module that is not installed is
    looked for in the folder in which the service was started."""

    @field_validator("extra_environments")
    @classmethod
    def _ids_of_their_own(cls, extra: dict[str, str]) -> dict[str, str]:
        taken = {name: known for name, known in built_in_environments().items() if extra.get(name, known) != known}
        if taken:
            clashes = [f"{name!r} is {known} of this project, got {extra[name]}" for name, known in taken.items()]
            raise ValueError(f"want an id that is free: {'; '.join(clashes)}")
        return extra


def read_settings() -> Settings:
    """The settings in this process's variables; ends the process with status 2 and a sentence where one is wrong."""
    return service_settings.read_settings(Settings)
