"""The tables. Types are those that SQLite and PostgreSQL share; a change here needs a revision in `migrations`."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, String, Text, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.contracts.rest.access import DEFAULT_PROJECT


class Base(DeclarativeBase):
    type_annotation_map = {dict[str, object]: JSON, float: Float}  # noqa: RUF012 - SQLAlchemy's own form


class JobRow(Base):
    """One job. Ids grow with time, so their order is the order of submission."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_by_project", "project_id", "id"),
        Index("jobs_by_state", "state", "id"),
        Index("jobs_by_parent", "parent_job"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    project_id: Mapped[str] = mapped_column(String(64), server_default=DEFAULT_PROJECT)
    submitted_by: Mapped[str | None] = mapped_column(String(128))
    """The caller as the audit log writes it; null: submitted before this was kept."""
    key_id: Mapped[str | None] = mapped_column(String(16))
    """The submitter's key; null: that of the settings, this machine, or not kept."""
    kind: Mapped[str] = mapped_column(String(16), server_default="training")
    """`training` or `evaluation`."""
    name: Mapped[str | None] = mapped_column(String(64), index=True)
    state: Mapped[str] = mapped_column(String(16))
    command: Mapped[str] = mapped_column("wish", String(8))
    """The user's wish; the column has its first name."""
    told_command: Mapped[str | None] = mapped_column("told_wish", String(8))
    """The command that stands in Redis; differs from `command` while the trainer has to be told."""
    dispatch_wanted: Mapped[int] = mapped_column(Integer, server_default="1")
    """How often the trainer's queue had to be given this job: at submission, and at each resume from a pause."""
    dispatch_made: Mapped[int] = mapped_column(Integer, server_default="0")
    """How many of those were done; less than `dispatch_wanted` while one is left."""
    parent_job: Mapped[str | None] = mapped_column(String(32))
    """The job that this one retries, was forked from, or evaluates."""
    origin: Mapped[dict[str, object] | None]
    """`services.contracts.rest.jobs.Origin`: what of its parent the job begins with."""
    environment_id: Mapped[str] = mapped_column(String(128), server_default="")
    advantage_estimator: Mapped[str] = mapped_column(String(16), server_default="")
    seed: Mapped[int] = mapped_column(BigInteger, server_default="0")
    total_batches: Mapped[int] = mapped_column(BigInteger, server_default="0")
    spec: Mapped[dict[str, object]]
    environment: Mapped[dict[str, object]]
    created_unix_s: Mapped[float]
    started_unix_s: Mapped[float | None]
    finished_unix_s: Mapped[float | None]
    phase: Mapped[str | None] = mapped_column(String(64))
    error: Mapped[str | None] = mapped_column(String(4000))
    metrics: Mapped[dict[str, object] | None]
    """Figures of the last batch."""
    summary: Mapped[dict[str, object] | None]
    event_id: Mapped[str] = mapped_column(String(40))
    """Last event of the job's stream that is stored here."""
    tag_line: Mapped[str] = mapped_column("tags", String(640), server_default="")
    """The tags with a space before and behind each, ` a b `, so that each can be looked for; empty: none."""
    notes: Mapped[str | None] = mapped_column(Text)
    archived: Mapped[bool] = mapped_column(Boolean, server_default=false())

    @property
    def tags(self) -> list[str]:
        """Words of the user's."""
        return self.tag_line.split()

    @tags.setter
    def tags(self, words: list[str]) -> None:
        self.tag_line = " ".join(["", *words, ""]) if words else ""

    @property
    def environment_section(self) -> dict[str, object]:
        """`environment` of the spec: what the job wants of its environment."""
        section = self.spec["environment"]
        assert isinstance(section, dict)
        return section

    @property
    def members(self) -> list[str]:
        """Names of the members of its mixture; empty: it has none."""
        mixture = self.environment_section.get("mixture")
        return [str(one["member"]) for one in mixture] if isinstance(mixture, list) else []

    @property
    def is_evaluation(self) -> bool:
        return self.kind == "evaluation"


class EventRow(Base):
    """One event of a job's stream; (ms, seq) is its Redis stream id."""

    __tablename__ = "job_events"
    __table_args__ = (Index("job_events_by_kind", "job_id", "kind"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    ms: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    at_unix_s: Mapped[float]
    data: Mapped[dict[str, object]]

    @property
    def stream_id(self) -> str:
        """`<ms>-<seq>`, as Redis writes it."""
        return f"{self.ms}-{self.seq}"

    @property
    def position(self) -> tuple[int, int]:
        return self.ms, self.seq


class IdempotencyRow(Base):
    """The first answer to a submission with an Idempotency-Key."""

    __tablename__ = "idempotency_keys"

    project_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    answer: Mapped[str] = mapped_column(Text)
    """The body as it was sent."""
    created_unix_s: Mapped[float]
