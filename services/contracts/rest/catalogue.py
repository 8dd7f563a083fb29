"""Environments, algorithms and the installation's health as documents."""

from __future__ import annotations

from pydantic import Field, JsonValue

from services.contracts.environment import EnvironmentInfo
from services.contracts.rest.base import Document, Page


class EnvironmentView(Document):
    """An environment that jobs can name."""

    info: EnvironmentInfo
    unavailable_reason: str = ""
    """Why the environment is known but cannot be opened here; empty: it can."""


class EnvironmentPage(Page[EnvironmentView]):
    """Some environments, in order of id."""


class Algorithms(Document):
    """JSON schemas of what a job can ask for."""

    algorithm: dict[str, JsonValue]
    job: dict[str, JsonValue]


class Health(Document):
    """Every dependency by name: `ok`, or what is wrong."""

    status: str
    checks: dict[str, str] = Field(default_factory=dict)


class ServiceView(Document):
    """A live instance of a service."""

    service: str
    instance: str
    pid: int | None
    detail: dict[str, JsonValue]


class QueueView(Document):
    """A stream or queue and how much of it is not done."""

    name: str
    job_id: str | None
    waiting: int
    """Messages that are not delivered yet."""
    in_flight: int
    """Delivered and not acknowledged."""


class LedgerView(Document):
    """The ledger's balance: opened = consumed + sum(dropped) + live."""

    opened: int = 0
    consumed: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    live: int = 0
    balanced: bool = True


class AlarmView(Document):
    """An alarm that is not over."""

    name: str
    """Stable, e.g. `dead_letters`; docs/reliability.md has all."""
    job_id: str | None
    """Null: of the installation."""
    subject: str
    """Which instance it is about; empty: the job or the installation as a whole."""
    since_unix_s: float
    value: float
    """The figure, in `unit`."""
    above: float
    """The figure that is still well."""
    unit: str
    message: str
    """One sentence."""
    meaning: str
    advice: str
    """The remedy."""


class SystemView(Document):
    """The installation at a glance."""

    version: str
    database_revision: str
    health: Health
    services: list[ServiceView]
    queues: list[QueueView]
    ledger: LedgerView
    """Counts over the project's jobs that run or are paused."""
    alarms: list[AlarmView] = Field(default_factory=list)
    """Those of the project's jobs, and of the installation."""
    dead_letters: int = 0
    """Messages that were set aside; see `/v1/dead-letters`."""
    jobs: dict[str, int]
    """State -> how many jobs of the project."""
