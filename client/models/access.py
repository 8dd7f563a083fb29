"""Who may do what: keys, projects, and the record of what was done."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from client.models.base import Answer, OpenAnswer


class ApiKey(Answer):
    """A key as lists show it: never the key itself."""

    id: str
    name: str
    prefix: str = ""
    """First characters, to recognise it by."""
    project: str | None = None
    scopes: list[str]
    """submit, read, admin."""
    created_unix_s: float
    expires_unix_s: float | None = None
    revoked_unix_s: float | None = None


class NewKey(ApiKey):
    """A key at its making: the only time that it is shown."""

    key: str


class Project(OpenAnswer):
    """A project: its jobs, rollouts and checkpoints are seen by its own keys only."""

    id: str
    name: str


class AuditEntry(OpenAnswer):
    """Something that somebody did."""

    at_unix_s: float
    action: str


class Whoami(OpenAnswer):
    """Whom the API takes this client for."""

    scopes: list[str] = Field(default_factory=list)
    project: Any = None
