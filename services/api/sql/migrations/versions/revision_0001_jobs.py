"""Jobs, their events, and idempotent submission."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.String(64), index=True),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("wish", sa.String(8), nullable=False),
        sa.Column("told_wish", sa.String(8)),
        sa.Column("dispatched", sa.Boolean, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("environment", sa.JSON, nullable=False),
        sa.Column("created_unix_s", sa.Float, nullable=False),
        sa.Column("started_unix_s", sa.Float),
        sa.Column("finished_unix_s", sa.Float),
        sa.Column("phase", sa.String(64)),
        sa.Column("error", sa.String(4000)),
        sa.Column("metrics", sa.JSON),
        sa.Column("summary", sa.JSON),
        sa.Column("event_id", sa.String(40), nullable=False),
    )
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("ms", sa.BigInteger, primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at_unix_s", sa.Float, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Index("job_events_by_kind", "job_id", "kind"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("body_sha", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("answer", sa.JSON, nullable=False),
        sa.Column("created_unix_s", sa.Float, nullable=False),
    )
