"""Documents of keys, projects and the audit log."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, Field, computed_field

from services.contracts.rest.base import DEPRECATED, Document, Named, Page, Request

DEFAULT_PROJECT = "default"
"""The project of everybody on an installation without keys, and of jobs that are older than projects."""


class Scope(StrEnum):
    """The rights of a key; `admin` includes the others and sees every project."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


ProjectId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["robots"])]
KeyName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,64}$", examples=["nightly runs"])]
UnixSeconds = Annotated[float, Field(strict=True, gt=0, lt=1e11, allow_inf_nan=False, examples=[4_000_000_000])]
_MOST = 10**15  # JSON numbers are exact up to 2**53
_MOST_JOBS = 10**6


def _whole(value: object) -> object:
    """4.0 is an integer in JSON Schema; "4" and true are none."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Jobs = Annotated[int, Field(strict=True, ge=0, le=_MOST_JOBS), BeforeValidator(_whole)]
Count = Annotated[int, Field(strict=True, ge=0, le=_MOST), BeforeValidator(_whole)]


class Quotas(Request):
    """The quotas of a project; null does not bind."""

    max_concurrent_jobs: Jobs | None = Field(None, examples=[4])
    """Jobs that have not ended."""
    max_total_steps: Count | None = Field(None, examples=[1_000_000])
    """Training steps over all of its jobs, for ever: played ones, and the most that its open jobs can play."""
    max_storage_bytes: Count | None = Field(None, examples=[10**11])
    """Files of all of its jobs; when it is reached, no new job is taken."""


class NewProject(Request):
    id: ProjectId
    quotas: Quotas = Quotas()


class ProjectUsage(Document):
    """The present usage of a project."""

    concurrent_jobs: int
    total_steps: int
    storage_bytes: int
    """Measured once a minute."""


class ProjectView(Document):
    """A project, its quotas and what it uses."""

    id: str
    created_unix_s: float
    quotas: Quotas
    usage: ProjectUsage


class NewKeyRequest(Request):
    name: KeyName
    scopes: list[Scope] = Field(min_length=1, max_length=3, examples=[["read", "submit"]])
    """`read` looks, `submit` changes jobs, `admin` does all, in every project."""
    project: ProjectId = DEFAULT_PROJECT
    expires_unix_s: UnixSeconds | None = None
    """Null: it is valid until it is revoked."""


class KeyView(Document):
    """A key without its secret."""

    id: str
    name: str
    prefix: str
    """How the key begins."""
    scopes: list[Named[Scope]]
    project: str
    created_unix_s: float
    expires_unix_s: float | None
    revoked_unix_s: float | None
    last_used_unix_s: float | None
    """Time of the last use, to the minute."""


class CreatedKey(KeyView):
    """A new key, with its secret for the only time."""

    key: str


class AuditEntry(Document):
    """One attempt to change something."""

    id: int
    at_unix_s: float
    actor: str
    """Name of the key; `unknown` where none was recognised."""
    key_id: str | None
    project: str | None
    address: str
    method: str
    path: str
    made: str | None
    """The place of its result."""
    status: int
    """HTTP status of the answer: the outcome."""


class AuditPage(Page[AuditEntry]):
    """Some entries, newest first."""

    @computed_field(json_schema_extra=DEPRECATED)  # type: ignore[prop-decorator]
    @property
    def entries(self) -> list[AuditEntry]:
        """The same as `items`."""
        return self.items


class KeyPage(Page[KeyView]):
    """Some keys, the revoked ones too."""


class ProjectPage(Page[ProjectView]):
    """Some projects."""


class WhoAmI(Document):
    """The caller as the API sees it."""

    name: str
    key_id: str | None
    """Null: this machine in an open installation, or the key of the settings."""
    project: str
    """The project of its new jobs."""
    scopes: list[Named[Scope]]
    sees_every_project: bool
