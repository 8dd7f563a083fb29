"""The tables. Types are those that SQLite and PostgreSQL share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, Any]: JSON, float: Float}  # noqa: RUF012 - SQLAlchemy's own form


class JobRow(Base):
    """One job. Ids grow with time, so their order is the order of submission."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str | None] = mapped_column(String(64), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    wish: Mapped[str] = mapped_column(String(8))
    told_wish: Mapped[str | None] = mapped_column(String(8))
    """The wish that stands in Redis; differs from `wish` while the trainer has to be told."""
    dispatched: Mapped[bool] = mapped_column(Boolean)
    """The trainer's queue was given this job since it last had to be."""
    spec: Mapped[dict[str, Any]]
    environment: Mapped[dict[str, Any]]
    created_unix_s: Mapped[float]
    started_unix_s: Mapped[float | None]
    finished_unix_s: Mapped[float | None]
    phase: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(String(4000))
    metrics: Mapped[dict[str, Any] | None]
    """Of the last batch."""
    summary: Mapped[dict[str, Any] | None]
    event_id: Mapped[str] = mapped_column(String(40))
    """Last event of the job's stream that is stored here."""


class EventRow(Base):
    """One event of a job's stream; (ms, seq) is its Redis stream id."""

    __tablename__ = "job_events"
    __table_args__ = (Index("job_events_by_kind", "job_id", "kind"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    ms: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    at_unix_s: Mapped[float]
    data: Mapped[dict[str, Any]]

    @property
    def stream_id(self) -> str:
        """`<ms>-<seq>`, as Redis writes it."""
        return f"{self.ms}-{self.seq}"


class IdempotencyRow(Base):
    """The first answer to a submission with an Idempotency-Key."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    answer: Mapped[dict[str, Any]]
    created_unix_s: Mapped[float]
