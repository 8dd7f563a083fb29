"""The tables of keys, projects and the audit log."""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from services.api.sql.tables import Base


class ProjectRow(Base):
    """A team's share of the installation. A quota that is null does not bind."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    created_unix_s: Mapped[float] = mapped_column(Float)
    max_concurrent_jobs: Mapped[int | None] = mapped_column(Integer)
    max_total_steps: Mapped[int | None] = mapped_column(BigInteger)
    max_storage_bytes: Mapped[int | None] = mapped_column(BigInteger)
    storage_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    """The size of its jobs' folders when they were last measured."""


class KeyRow(Base):
    """An API key; its secret is nowhere, only the argon2 hash of it."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    secret_hash: Mapped[str] = mapped_column(String(128))
    scopes: Mapped[str] = mapped_column(String(64))
    """Separated by spaces."""
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    created_unix_s: Mapped[float] = mapped_column(Float)
    expires_unix_s: Mapped[float | None] = mapped_column(Float)
    revoked_unix_s: Mapped[float | None] = mapped_column(Float)
    last_used_unix_s: Mapped[float | None] = mapped_column(Float)


class AuditRow(Base):
    """One attempt to change something, and what came of it."""

    __tablename__ = "audit_log"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    at_unix_s: Mapped[float] = mapped_column(Float)
    actor: Mapped[str] = mapped_column(String(128))
    key_id: Mapped[str | None] = mapped_column(String(16), index=True)
    project_id: Mapped[str | None] = mapped_column(String(64), index=True)
    address: Mapped[str] = mapped_column(String(64))
    method: Mapped[str] = mapped_column(String(16))
    path: Mapped[str] = mapped_column(String(256))
    made: Mapped[str | None] = mapped_column(String(256))
    """The address of the thing that it made."""
    status: Mapped[int] = mapped_column(Integer)
