"""Projects, API keys and the audit log. Older jobs belong to the project `default`."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    projects = op.create_table(
        "projects",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("created_unix_s", sa.Float, nullable=False),
        sa.Column("max_concurrent_jobs", sa.Integer),
        sa.Column("max_total_steps", sa.BigInteger),
        sa.Column("max_storage_bytes", sa.BigInteger),
        sa.Column("storage_bytes", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(projects, [{"id": "default", "created_unix_s": time.time(), "storage_bytes": 0}])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("secret_hash", sa.String(128), nullable=False),
        sa.Column("scopes", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(64), sa.ForeignKey("projects.id"), nullable=False, index=True),
        sa.Column("created_unix_s", sa.Float, nullable=False),
        sa.Column("expires_unix_s", sa.Float),
        sa.Column("revoked_unix_s", sa.Float),
        sa.Column("last_used_unix_s", sa.Float),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at_unix_s", sa.Float, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("key_id", sa.String(16), index=True),
        sa.Column("project_id", sa.String(64), index=True),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("path", sa.String(256), nullable=False),
        sa.Column("made", sa.String(256)),
        sa.Column("status", sa.Integer, nullable=False),
    )
