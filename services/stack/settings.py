"""Settings of the embedded stack: environment variables STACK_*. Variables of its services are passed on to them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.kit.redis_address import BrokerUrl, OptionalRedisUrl


class Settings(BaseSettings):
    """Read once in main, passed down."""

    model_config = SettingsConfigDict(env_prefix="STACK_", frozen=True)

    data_dir: Path = Path("runs/.platform")
    """Everything the platform keeps: queue, database, logs, jobs."""
    api_port: int = Field(8400, ge=0, le=65535)
    """The system gives another port when the default is taken; a port that was asked for is taken or refused."""
    handover: bool = False
    """Stop at the end of stdin, unless a word came before: who started the stack has gone before it was up."""
    redis_url: OptionalRedisUrl = ""
    """A Redis of your own; empty: an embedded one with its data in `data_dir/valkey`."""
    broker_url: BrokerUrl = ""
    """A database for Celery beside it; a cluster wants one. Empty: `redis_url`."""
    vllm_python: Path | None = None
    """Interpreter of the environment that holds vLLM; empty: `.venv-vllm` here or beside the running environment."""
    threads: int = Field(1, ge=1)
    """CPU threads of each numerical library in each service."""
    restarts: int = Field(6, ge=0)
    """Crashes of one service in a row after which the stack says so and tries it less and less often."""
    hung_s: int = Field(60, ge=5)
    """A service that gives no sign of life for so long is killed and started again; one that computes has 15 times as
    long."""
    drain_s: float = Field(2.0, ge=0)
    """Time for groups under way when the stack stops; what is not finished is played again at the next start."""
    traces_url: str = Field("", pattern=r"^(https?://\S+)?$")
    """Where the services send spans, OTLP over HTTP; empty: none are made."""
    log_level: str = "INFO"

    @property
    def port_asked_for(self) -> bool:
        """Whether this very port is wanted; 0 is any."""
        return "api_port" in self.model_fields_set and self.api_port != 0

    def found_vllm_python(self) -> Path | None:
        """The interpreter that vLLM runs in, absolute; None: vLLM is not installed."""
        if self.vllm_python is not None:
            return self.vllm_python.absolute() if self.vllm_python.exists() else None
        places = [Path.cwd(), Path(sys.prefix).parent]
        candidates = [place / ".venv-vllm" / "bin" / "python" for place in places]
        found = next((python for python in candidates if python.exists()), None)
        return found or (Path(sys.executable) if find_spec("vllm") else None)
