"""Who may do what: keys, projects, and the record of what was done."""

from __future__ import annotations

from gigpo.client.models.base import Answer


class ApiKey(Answer):
    """A key without its secret."""

    id: str
    name: str
    prefix: str
    """How the key begins, to recognise it by."""
    scopes: list[str]
    """`read` looks, `submit` changes jobs, `admin` does all, in every project."""
    project: str
    created_unix_s: float
    expires_unix_s: float | None
    revoked_unix_s: float | None
    last_used_unix_s: float | None


class NewKey(ApiKey):
    """A key at its making, with its secret for the only time."""

    key: str


class Quotas(Answer):
    """What a project may use; None does not bind."""

    max_concurrent_jobs: int | None = None
    max_total_steps: int | None = None
    max_storage_bytes: int | None = None


class ProjectUsage(Answer):
    """What a project uses now."""

    concurrent_jobs: int
    total_steps: int
    storage_bytes: int


class Project(Answer):
    """A project: its jobs, rollouts and checkpoints are seen by its own keys only."""

    id: str
    created_unix_s: float
    quotas: Quotas
    usage: ProjectUsage


class AuditEntry(Answer):
    """One attempt to change something."""

    id: int
    at_unix_s: float
    actor: str
    """Name of the key; `unknown` where none was recognised."""
    project: str | None
    address: str
    method: str
    path: str
    made: str | None
    """Where what it made is found."""
    status: int
    """HTTP status of the answer."""


class Whoami(Answer):
    """Whom the API takes this client for."""

    name: str
    key_id: str | None
    """None: this machine in an open installation, or the key of the API's settings."""
    project: str
    """Where its new jobs belong."""
    scopes: list[str]
    sees_every_project: bool
